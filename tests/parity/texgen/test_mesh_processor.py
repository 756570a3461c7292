"""Vertex-graph inpainting against the reference's native variant."""

from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.differentiable_renderer.mesh_processor import meshVerticeInpaint
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("texgen", "mesh_processor"), ids=lambda p: p.stem)
def test_mesh_processor(path: Path) -> None:
    vector = vectors.load(path)
    for case in vector.config["cases"]:
        name = case["name"]
        keys = ("texture", "mask", "vtx_pos", "vtx_uv", "pos_idx", "uv_idx")
        arrays = [vector.inputs[f"{name}.{key}"].numpy() for key in keys]
        before = [array.copy() for array in arrays]
        texture, mask = meshVerticeInpaint(*arrays)
        assert torch.equal(torch.from_numpy(mask), vector.outputs[f"{name}.cpp.mask"]), name
        expected = vector.outputs[f"{name}.cpp.texture"]
        torch.testing.assert_close(torch.from_numpy(texture), expected, rtol=0, atol=2e-6, msg=name)
        assert all((array == old).all() for array, old in zip(arrays, before, strict=True))
