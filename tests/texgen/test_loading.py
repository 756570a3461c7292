"""Checkpoint folders: containers, old keys, extra keys, the stored embedding, no code run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hy3dgen.errors import WeightsDamagedError, WeightsNotFoundError
from hy3dgen.texgen import loading
from hy3dgen.texgen.attention import AttendProcessor
from hy3dgen.texgen.files import EMPTY_PROMPT
from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel
from tests.texgen.tiny import DELIGHT, PAINT, TURBO, UNET


def test_sizes_come_from_the_config(checkpoint: Path) -> None:
    unet = loading.load_paint_unet(checkpoint / PAINT / "unet")
    assert unet.learned_text_clip_gen.shape == (1, 77, UNET["cross_attention_dim"])
    assert unet.class_embedding.weight.shape == (49, 4 * UNET["block_out_channels"][0])
    assert unet.unet.conv_in.in_channels == 12 and unet.unet_dual.conv_in.in_channels == 4
    assert unet.config.in_channels == 4
    assert not any(p.requires_grad for p in unet.parameters())
    processors = {type(m.processor) for m in unet.modules() if hasattr(m, "processor")}
    assert processors == {AttendProcessor}


def test_reference_name_for_loading(checkpoint: Path) -> None:
    unet = UNet2p5DConditionModel.from_pretrained(checkpoint / PAINT / "unet", torch_dtype=torch.float16)
    assert unet.dtype == torch.float16


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list a process's mappings")
def test_weights_stay_in_the_file(checkpoint: Path) -> None:
    """Loading copies nothing: the tensors' bytes are the mapped file's."""
    unet = loading.load_paint_unet(checkpoint / PAINT / "unet")
    address = unet.unet.conv_in.weight.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(end, 16) for end in line.split()[0].split("-"))
        if first <= address < last:
            assert line.endswith("diffusion_pytorch_model.safetensors"), line
            return
    pytest.fail("no mapping holds the tensor")


def test_old_vae_keys_and_bin(checkpoint: Path) -> None:
    vae = loading.load_vae(checkpoint / TURBO / "vae")
    raw = torch.load(checkpoint / TURBO / "vae" / "diffusion_pytorch_model.bin", weights_only=True)
    key = "encoder.mid_block.attentions.0.{}.weight"
    assert torch.equal(vae.state_dict()[key.format("to_q")], raw[key.format("query")])
    assert torch.equal(vae.state_dict()[key.format("to_out.0")], raw[key.format("proj_attn")])


def test_extra_keys_are_left_out_missing_ones_are_not(checkpoint: Path, tmp_path: Path) -> None:
    loading.load_paint_unet(checkpoint / TURBO / "unet")
    folder = tmp_path / "unet"
    shutil.copytree(checkpoint / TURBO / "unet", folder)
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    state.pop("unet.class_embedding.weight")
    save_file(state, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsDamagedError, match="class_embedding"):
        loading.load_paint_unet(folder)


def test_delight_unet_is_strict(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    shutil.copytree(checkpoint / DELIGHT / "unet", folder)
    state = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({**state, "stranger": torch.ones(1)}, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsDamagedError, match="stranger"):
        loading.load_unet(folder)


def test_empty_prompt_is_stored(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text encoder runs once; afterwards its folder is not even needed."""
    folder = tmp_path / "delight"
    shutil.copytree(checkpoint / DELIGHT, folder)
    (folder / EMPTY_PROMPT).unlink(missing_ok=True)
    states = loading.empty_prompt(folder)
    assert states.shape == (1, 77, UNET["cross_attention_dim"]) and torch.isfinite(states).all()
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(folder / "tokenizer")
    assert torch.equal(loading.empty_prompt(folder), states)
    (folder / EMPTY_PROMPT).unlink()
    with pytest.raises(WeightsNotFoundError, match="no-delight"):
        loading.empty_prompt(folder)


def test_empty_prompt_of_a_folder_that_cannot_be_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "delight"
    shutil.copytree(checkpoint / DELIGHT, folder)
    (folder / EMPTY_PROMPT).unlink(missing_ok=True)
    write = loading.write_atomic

    def refuse(path: Path, data: bytes) -> None:
        if folder in path.parents:
            raise loading.OutputError("read-only")
        write(path, data)

    monkeypatch.setattr(loading, "write_atomic", refuse)
    states = loading.empty_prompt(folder)
    assert not (folder / EMPTY_PROMPT).exists()
    monkeypatch.setattr(loading, "_encode_empty_prompt", lambda _: pytest.fail("the text encoder ran again"))
    assert torch.equal(loading.empty_prompt(folder), states)


def test_broken_configs(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"config\.json"):
        loading.load_vae(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsDamagedError, match=r"config\.json"):
        loading.load_vae(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsNotFoundError, match="no weights"):
        loading.load_vae(tmp_path)
