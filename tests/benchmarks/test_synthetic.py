"""Synthetic checkpoints: the official layout, loadable strictly, full-size shapes, and a closed surface inside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from benchmarks import synthetic
from hy3dgen.runtime.costs import known_sizes
from hy3dgen.runtime.units import size_of
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline, instantiate_from_config
from hy3dgen.weights.load import build_without_memory, open_weights
from hy3dgen.weights.locate import find_folder, find_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    written = [folder.name for folder, _ in synthetic.write_all(root, "tiny")]
    assert written == [synthetic.SHAPE, synthetic.DELIGHT, synthetic.PAINT]
    return root


def test_the_models_are_found_by_their_official_names(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HY3DGEN_MODELS", str(models))
    assert find_model("2") is not None
    assert find_folder("paint") is not None
    assert find_folder("delight") is not None


def test_what_is_finished_is_not_written_again(models: Path) -> None:
    path = models / synthetic.REPO / synthetic.SHAPE / "model.fp16.safetensors"
    before = path.stat().st_mtime_ns
    list(synthetic.write_all(models, "tiny", ("shape",)))
    assert path.stat().st_mtime_ns == before


def test_a_shape_comes_out_closed_whatever_the_latents_are(models: Path) -> None:
    pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(
        str(models / synthetic.REPO / synthetic.SHAPE), device="cpu", dtype=torch.float32
    )
    draws = torch.Generator().manual_seed(1)
    for scale in (1.0, 4.0):
        latents = scale * torch.randn(1, *pipeline.components["vae"].latent_shape, generator=draws)
        [mesh] = pipeline._export(latents, output_type="trimesh", octree_resolution=40)
        largest = max(mesh.split(only_watertight=False), key=lambda part: len(part.faces))
        assert largest.is_watertight
        assert len(largest.faces) > 0.9 * len(mesh.faces)
        ball = 4 / 3 * np.pi * synthetic.RADIUS**3
        assert largest.volume == pytest.approx(ball, rel=0.25)


def test_the_ball_is_positive_inside_and_stays_in_the_box() -> None:
    sphere = torch.from_numpy(trimesh.creation.icosphere(subdivisions=3).vertices).float()
    assert (synthetic.ball_field(0.4 * sphere) > 0).all()
    assert (synthetic.ball_field(0.95 * sphere) < 0).all()


def test_full_size_networks_have_the_published_sizes_and_the_plans_data_fits_them() -> None:
    """The sizes in activations.json are those of the networks that the configs build."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel

    def size(network: torch.nn.Module):
        return size_of({name: 2 * tensor.numel() for name, tensor in network.state_dict().items()})

    sections = synthetic.shape_config("full")
    for name in ("conditioner", "model", "vae"):
        assert (
            size(build_without_memory(lambda name=name: instantiate_from_config(sections[name])))
            == (known_sizes("2")[name])
        )
    with torch.device("meta"):
        paint = UNet2p5DConditionModel(UNet2DConditionModel.from_config(synthetic.unet_config("full", 4)))
        delight = UNet2DConditionModel.from_config(synthetic.unet_config("full", 8))
        vae = AutoencoderKL.from_config(synthetic.vae_config("full"))
    assert size(paint.unet) == known_sizes("paint")["paint_unet"]
    assert size(paint.unet_dual) == known_sizes("paint")["paint_unet_dual"]
    assert size(delight) == known_sizes("delight")["delight_unet"]
    assert size(vae.decoder) == known_sizes("paint")["paint_vae_decoder"]
    published = json.loads(
        (Path(__file__).parents[1] / "data/parity/texgen/unet2p5d-official-keys.json").read_text(encoding="utf-8")
    )
    assert sum(p.numel() for p in paint.parameters()) == published["total_parameters"]


def test_files_hold_what_was_announced_and_equal_names_give_equal_values(tmp_path: Path) -> None:
    noise, shapes = synthetic.Noise(3), {"a.weight": (7, 5), "norm.weight": (9,), "b.bias": (4,)}
    path = tmp_path / "x.safetensors"
    synthetic.write_safetensors(path, shapes, lambda name: noise.values(name, shapes[name]))
    with open_weights(path) as source:
        assert {key: source.shape(key) for key in source} == shapes
        again = synthetic.Noise(3)
        for key in source:
            assert np.array_equal(source.get(key).numpy(), again.values(key, shapes[key]))
        assert abs(float(source.get("norm.weight").float().mean()) - 1) < 0.1


def test_large_tensors_reuse_the_table() -> None:
    values = synthetic.Noise(0).values("x.weight", (3000, 2000))
    assert values.shape == (3000, 2000)
    assert values.dtype == np.float16
    assert float(values.astype(np.float32).std()) == pytest.approx(0.5 / 2000**0.5, rel=0.05)


def test_runs_need_not_hash_the_weights_again(models: Path) -> None:
    from hy3dgen.jobs.models import weights_sha256
    from hy3dgen.runtime.files import sha256_of_file

    path = models / synthetic.REPO / synthetic.PAINT / "unet" / "diffusion_pytorch_model.safetensors"
    assert path.resolve().name == sha256_of_file(path) == weights_sha256(path)
