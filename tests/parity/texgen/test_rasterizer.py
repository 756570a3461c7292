"""The reference rasteriser's recorded ids, barycentrics and interpolations, on every back end."""

from pathlib import Path

import pytest
import torch

from hy3dgen.rendering.rasterizers import BACKENDS, interpolate, rasterize
from tests.parity import vectors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", vectors.files("texgen", "rasterizer"), ids=lambda p: p.stem)
def test_rasterizer(path: Path, backend: str) -> None:
    vector = vectors.load(path)
    for case in vector.config["cases"]:
        name = case["name"]
        clip, faces = vector.inputs[f"{name}.pos"], vector.inputs[f"{name}.tri"]
        prior = vector.inputs[f"{name}.clamp_depth"] if case["use_depth_prior"] else None
        raster = rasterize(clip, faces, tuple(case["resolution"]), backend=backend, depth_prior=prior)
        assert torch.equal(raster.face_ids, vector.outputs[f"{name}.findices"]), name
        torch.testing.assert_close(
            raster.barycentrics, vector.outputs[f"{name}.barycentric"], rtol=0, atol=1e-6, msg=name
        )
        values = interpolate(vector.inputs[f"{name}.attr"], faces, raster)
        torch.testing.assert_close(values[None], vector.outputs[f"{name}.interpolated"], rtol=0, atol=1e-6, msg=name)
