"""Whole sampling runs against the reference's: condition, latents of every step, final latents, the VAE's features."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline, instantiate_from_config
from hy3dgen.shapegen.registry import resolve
from tests.parity import vectors
from tests.parity.vectors import Vector

TOLERANCE = {"rtol": 1e-4, "atol": 5e-5}
FILES = vectors.files("shapegen", "pipeline")


def pipeline_of(vector: Vector) -> Any:
    """The pipeline that the file's metadata describes, with the file's weights, on the CPU."""
    parts: dict[str, Any] = {}
    for name in ("model", "vae", "conditioner"):
        parts[name] = instantiate_from_config(vector.config[name]).eval().requires_grad_(False)
        prefix = name + "."
        state = {key[len(prefix) :]: value for key, value in vector.weights.items() if key.startswith(prefix)}
        parts[name].load_state_dict(state)
    for name in ("scheduler", "image_processor"):
        parts[name] = instantiate_from_config(vector.config[name])
    return resolve(vector.config["target"])(**parts, device="cpu", dtype=vector.config["dtype"])


def picture_of(vector: Vector) -> Any:
    """The recorded picture (h, w, 4), or the mapping of views in the recorded order."""
    described = vector.config["image"]
    if isinstance(described, dict):
        return {name: vector.inputs[f"view.{name}"].numpy() for name in described["views_in_dict_order"]}
    return vector.inputs[described.removeprefix("input.")].numpy()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sampling_run_equals_the_reference(path: Path) -> None:
    vector = vectors.load(path)
    pipeline, call = pipeline_of(vector), dict(vector.config["call"])
    assert isinstance(pipeline, Hunyuan3DDiTFlowMatchingPipeline)
    [seed] = map(int, re.findall(r"manual_seed\((\d+)\)", call["generator"]))
    noise = pipeline.prepare_latents(
        len(vector.inputs["initial_noise"]), torch.float32, pipeline.device, torch.Generator().manual_seed(seed)
    )
    assert torch.equal(noise, vector.inputs["initial_noise"])

    prepared = pipeline.prepare_image(picture_of(vector))
    picture = prepared.pop("image")
    condition = pipeline.encode_cond(picture, prepared, False, False)["main"]
    compare("cond_main", condition, vector.outputs["cond_main"])

    steps: list[Tensor] = []
    latents = pipeline(
        **{**call, "generator": torch.Generator().manual_seed(seed)},
        image=picture_of(vector),
        callback=lambda index, timestep, output: steps.append(output.prev_sample.clone()),
        callback_steps=1,
    )
    torch.testing.assert_close(pipeline.scheduler.timesteps, vector.outputs["timesteps"], rtol=1e-6, atol=0)
    compare("step_latents", torch.stack(steps), vector.outputs["step_latents"])
    compare("latents", latents, vector.outputs["latents"])
    features = pipeline.vae(latents / pipeline.vae.scale_factor)
    compare("vae_features", features, vector.outputs["vae_features"])


def compare(name: str, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, **TOLERANCE, msg=lambda message: f"{name}: {message}")


def test_there_are_files_of_this_kind() -> None:
    assert FILES, "no pipeline vectors in PARITY_DIR"
