"""Merging of projected views, with skipped and empty ones."""

from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.differentiable_renderer.mesh_render import MeshRender
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("texgen", "fast_bake"), ids=lambda p: p.stem)
def test_fast_bake(path: Path) -> None:
    vector = vectors.load(path)
    for i in range(len(vector.config["cases"])):
        textures, trusts = vector.inputs[f"{i}.textures"], vector.inputs[f"{i}.cos_maps"]
        render = MeshRender(texture_size=textures.shape[1], device="cpu")
        texture, painted = render.fast_bake_texture(list(textures), list(trusts))
        assert torch.equal(painted, vector.outputs[f"{i}.trust"])
        torch.testing.assert_close(texture, vector.outputs[f"{i}.texture"], rtol=0, atol=1e-6)
