"""Names, loading, the official layout, and the held-out evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import hy3dgen
from benchmarks.shapes import shape
from hy3dgen.errors import UsageError, WeightsDamagedError
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline
from tests.training.conftest import micro_config, micro_networks
from training import evaluate
from training.export import POINT_ENCODER, WEIGHTS, export, num_parameters
from training.networks import (
    POINT_ENCODER_NAMES,
    POSITIONS,
    Networks,
    load_tensors,
    nano_config,
    read_folder,
    resampled_positions,
    z_order,
)  # fmt: skip

NANO = Path(hy3dgen.__file__).parent / "assets" / "nano"


def stored(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def test_the_shipped_weights_round_trip(tmp_path):
    config, tensors = read_folder(NANO)
    networks = Networks(config)
    load_tensors(networks, tensors, partial=True)
    assert 23_000_000 < num_parameters(networks)["all"] < 24_000_000
    export(networks, tmp_path)
    before, after = stored(NANO / WEIGHTS), stored(tmp_path / WEIGHTS)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == torch.float16 and torch.equal(after[name], tensor), name
    again, _ = read_folder(tmp_path)
    assert again == config


def test_an_exported_folder_loads_and_runs_in_the_public_pipeline(tmp_path):
    networks = micro_networks()
    networks.scale = 0.8
    export(networks, tmp_path)
    pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(tmp_path), device="cpu", dtype=torch.float32)
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[16:48, 20:44] = 255
    options: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "latent", "seed": 0}
    latents = pipeline(Image.fromarray(picture), **options)
    assert latents.shape == (1, 16, 4) and bool(torch.isfinite(latents).all())
    assert pipeline.vae.scale_factor == 0.8


def test_the_pipeline_and_the_evaluation_sample_alike(tmp_path):
    networks = micro_networks().half().float().eval()  # as exported
    torch.nn.init.normal_(networks.model.final_layer.linear.weight, generator=torch.Generator().manual_seed(0))
    networks.half().float()
    export(networks, tmp_path)
    pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(tmp_path), device="cpu", dtype=torch.float32)
    data = evaluate.held_out(28, every=16, cells=8, categories=("mug",))
    noise = torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        shape("mug", 0).render(512), num_inference_steps=5, guidance_scale=3.0, output_type="latent", latents=noise
    )
    with torch.inference_mode():
        mine = evaluate.sampled(networks, data.pictures, noise, 3.0, 5)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


def test_the_evaluation_scores_a_perfect_field_as_perfect():
    data = evaluate.held_out(28, every=8, cells=12, categories=("fruit", "sofa"))
    assert len(data) == 4 and data.pictures.shape == (4, 3, 28, 28) and data.inside.shape == (4, 13, 13, 13)
    fields = np.where(data.inside, 1.0, -1.0).astype(np.float32)
    perfect = evaluate.summary(fields, data)
    assert perfect["iou"] == 1.0 and perfect["chamfer"] < 0.1 and set(perfect["categories"]) == {"fruit", "sofa"}
    assert evaluate.summary(-fields, data)["iou"] == 0.0
    networks = micro_networks().eval()
    for record in (evaluate.reconstructed(networks, data), evaluate.generated(networks, data, steps=2)):
        assert 0 <= record["iou"] < 0.9 and record["count"] == 4


def test_a_point_encoder_under_its_first_names_is_found(tmp_path):
    networks = micro_networks()
    export(networks, tmp_path)
    renamed = {}
    for name, tensor in stored(tmp_path / POINT_ENCODER).items():
        for old, new in POINT_ENCODER_NAMES.items():
            if name.startswith(new):
                name = old + name[len(new) :]
        renamed[name] = tensor
    assert {name.split(".")[0] for name in renamed} == {"inp", "cross", "resblocks", "ln", "pre_kl", "side"}
    save_file(renamed, tmp_path / POINT_ENCODER)
    config, tensors = read_folder(tmp_path)
    other = Networks(config, num_points=64)
    load_tensors(other, tensors, partial=True)
    for name in ("vae.encoder.cross_attn.attn.c_q.weight", "side.weight"):  # the side head goes on too
        assert torch.equal(other.state_dict()[name], networks.state_dict()[name].half().float())


def test_wrong_weights_are_named():
    networks = micro_networks()
    with pytest.raises(WeightsDamagedError, match="unknown nonsense"):
        load_tensors(networks, {**networks.state_dict(), "nonsense": torch.zeros(1)})
    with pytest.raises(WeightsDamagedError, match=r"lacks vae\.encoder"):
        load_tensors(networks, {k: v for k, v in networks.state_dict().items() if not k.startswith("vae.encoder.")})
    with pytest.raises(WeightsDamagedError, match=r"shape of side\.bias"):
        load_tensors(networks, {**networks.state_dict(), "side.bias": torch.zeros(5)})
    with pytest.raises(UsageError, match="fewer"):
        Networks(micro_config(), num_points=8)


def test_positions_are_resampled_for_larger_pictures():
    config = nano_config(image_size=224)
    encoder = config["conditioner"]["params"]["main_image_encoder"]["kwargs"]
    assert encoder["image_size"] == encoder["config"]["image_size"] == 224
    ramp = torch.linspace(0, 1, 12).repeat(12)[None, :, None].expand(-1, -1, 3)
    table = torch.cat([torch.full((1, 1, 3), 9.0), ramp], 1)
    fine = resampled_positions(table, 16)
    assert fine.shape == (1, 257, 3) and bool((fine[:, 0] == 9).all())
    row = fine[0, 1:17, 0]
    assert bool((row.diff() > 0).all())
    assert [float(row[0]), float(row[-1])] == pytest.approx([0, 1], abs=0.05)
    assert POSITIONS in micro_networks().state_dict()


def test_latents_are_chosen_from_all_over_the_surface():
    points = torch.rand(2, 128, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    chosen = z_order(points, 16).query_uniform
    assert chosen.shape == (2, 16) and all(len(set(row.tolist())) == 16 for row in chosen)
    for cloud, index in zip(points, chosen, strict=True):
        octants = {tuple((cloud[i] > 0).tolist()) for i in index}
        assert len(octants) >= 7


def test_pictures_stored_ahead_are_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "CATEGORIES", {name: None for name in ("mug", "fruit")})
    evaluate.write_pictures(tmp_path / "held.zip", 28, every=8)
    fresh = evaluate.held_out(28, every=8, cells=4, categories=("mug", "fruit"))
    monkeypatch.setattr(evaluate, "preprocessed", None)  # nothing may be made again
    stored = evaluate.held_out(28, every=8, cells=4, categories=("mug", "fruit"), pictures=tmp_path / "held.zip")
    assert (fresh.pictures - stored.pictures).abs().max() < 0.6 / 255
    with pytest.raises(WeightsDamagedError, match="28 px, 42"):
        evaluate.read_pictures(tmp_path / "held.zip", 42)


def test_parts_of_the_held_out_set_are_all_of_it():
    whole = evaluate.held_out(28, every=8, cells=4, categories=("mug", "fruit"))
    parts = [evaluate.held_out(28, every=8, cells=4, categories=("mug", "fruit"), rank=r, world=3) for r in range(3)]
    assert [len(part) for part in parts] == [2, 1, 1]
    assert torch.equal(torch.cat([part.pictures for part in parts]).sum(), whole.pictures.sum())
