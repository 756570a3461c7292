"""Back projection by splatting: colours, trust and the empty boundary map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.texgen.differentiable_renderer.mesh_render import MeshRender
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("texgen", "back_project"), ids=lambda p: p.stem)
def test_back_project(path: Path) -> None:
    vector = vectors.load(path)
    faces, vertices, uv = (vector.inputs[k].numpy() for k in ("faces", "vertices", "uv"))
    for i, case in enumerate(vector.config["cases"]):
        render = MeshRender(
            default_resolution=case["default_resolution"], texture_size=case["texture_size"], device="cpu"
        )
        render.bake_unreliable_kernel_size = case["bake_unreliable_kernel_size"]
        render.bake_angle_thres = case["bake_angle_thres"]
        render.set_mesh(vertices, faces, uv, faces)
        image = Image.fromarray(np.asarray(vector.inputs[f"{i}.image"]))
        found = render.back_project(image, case["elev"], case["azim"])
        for name, value in zip(("texture", "cos_map", "boundary_map"), found, strict=True):
            expected = vector.outputs[f"{i}.{name}"]
            assert value.shape == expected.shape
            differing = ((value - expected).abs() > 1e-4).any(-1).float().mean()
            assert differing <= 0.002, (i, name, float(differing))
        assert torch.count_nonzero(found[1]) > 0
