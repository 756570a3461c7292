"""The reference rasteriser's recorded ids, barycentrics and interpolations, on every back end."""

from pathlib import Path

import pytest
import torch

from hy3dgen.rendering.rasterizers import BACKENDS, interpolate, rasterize
from hy3dgen.rendering.rasterizers.triton_gpu import unusable
from hy3dgen.runtime.device import pick_device
from tests.parity import vectors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", vectors.files("texgen", "rasterizer"), ids=lambda p: p.stem)
def test_rasterizer(path: Path, backend: str) -> None:
    device = pick_device() if backend == "triton" else torch.device("cpu")
    if backend == "triton" and unusable(device):
        pytest.skip("needs a CUDA device that Triton can draw on")
    vector = vectors.load(path)
    for case in vector.config["cases"]:
        name = case["name"]
        clip, faces = vector.inputs[f"{name}.pos"], vector.inputs[f"{name}.tri"]
        prior = vector.inputs[f"{name}.clamp_depth"] if case["use_depth_prior"] else None
        if prior is not None:
            prior = prior.to(device)
        raster = rasterize(
            clip.to(device), faces.to(device), tuple(case["resolution"]), backend=backend, depth_prior=prior
        )
        assert torch.equal(raster.face_ids.cpu(), vector.outputs[f"{name}.findices"]), name
        torch.testing.assert_close(
            raster.barycentrics.cpu(), vector.outputs[f"{name}.barycentric"], rtol=0, atol=1e-6, msg=name
        )
        values = interpolate(vector.inputs[f"{name}.attr"].to(device), faces.to(device), raster).cpu()
        torch.testing.assert_close(values[None], vector.outputs[f"{name}.interpolated"], rtol=0, atol=1e-6, msg=name)
