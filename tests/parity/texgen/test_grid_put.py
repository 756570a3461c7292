"""Bilinear splatting of samples onto a grid."""

import ast
from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.differentiable_renderer.mesh_render import linear_grid_put_2d, stride_from_shape
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("texgen", "grid_put"), ids=lambda p: p.stem)
def test_grid_put(path: Path) -> None:
    vector = vectors.load(path)
    for i, case in enumerate(vector.config["cases"]):
        arguments = (case["H"], case["W"], vector.inputs[f"{i}.coords"], vector.inputs[f"{i}.values"])
        found = {"result": linear_grid_put_2d(*arguments)}
        found["sum"], found["count"] = linear_grid_put_2d(*arguments, return_count=True)
        for name, value in found.items():
            torch.testing.assert_close(value, vector.outputs[f"{i}.{name}"], rtol=0, atol=1e-5, msg=f"{i} {name}")
    for shape, stride in vector.config.get("stride_from_shape", {}).items():
        assert list(stride_from_shape(ast.literal_eval(shape))) == stride
