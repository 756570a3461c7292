"""The whole paint pipeline around recorded views: maps, camera numbers, baked, inpainted and final texture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hy3dgen.baking.inpaint import fill_picture, spread_over_vertices
from hy3dgen.texgen import pipelines
from hy3dgen.texgen.pipelines import Hunyuan3DPaintPipeline, Hunyuan3DTexGenConfig
from tests.parity.vectors import Vector, files, load

MASK_SHARE = 2e-3  # of texels that may differ


class Delight:
    def __call__(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB").resize((16, 16))


class Painter:
    """Gives the recorded views and remembers what it was asked."""

    view_size = 16

    def __init__(self, views: list[Image.Image]) -> None:
        self.views = views

    def __call__(self, images: list[Image.Image], controls: list[Image.Image], cameras: list[int]) -> list[Image.Image]:
        self.images, self.controls, self.cameras = images, controls, cameras
        return self.views


def make(vector: Vector, monkeypatch: pytest.MonkeyPatch) -> Hunyuan3DPaintPipeline:
    config = vector.config
    monkeypatch.setattr(Hunyuan3DPaintPipeline, "load_models", lambda self: None)
    monkeypatch.setattr(pipelines, "mesh_uv_wrap", lambda mesh: mesh)
    pipeline = Hunyuan3DPaintPipeline(
        Hunyuan3DTexGenConfig(
            None, "", device="cpu", render_size=config["render_size"], texture_size=config["texture_size"],
            candidate_camera_azims=config["azims"], candidate_camera_elevs=config["elevs"],
            candidate_view_weights=config["weights"], bake_exp=config["bake_exp"],
        )
    )  # fmt: skip
    pipeline.render.bake_unreliable_kernel_size = config["bake_unreliable_kernel_size"]
    pipeline.models = {
        "delight_model": Delight(),
        "multiview_model": Painter([Image.fromarray(view) for view in vector.inputs["views"].numpy()]),
    }
    return pipeline


def mesh_of(vector: Vector) -> trimesh.Trimesh:
    given = vector.inputs
    mesh = trimesh.Trimesh(given["vertices"].numpy(), given["faces"].numpy(), process=False)
    mesh.visual = trimesh.visual.TextureVisuals(uv=given["uv"].numpy())
    return mesh


@pytest.mark.parametrize("path", files("texgen", "full_bake"), ids=lambda p: p.stem)
def test_full_bake(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = load(path)
    out, pipeline = vector.outputs, make(vector, monkeypatch)
    seen: dict[str, Any] = {}
    inpaint = pipeline.texture_inpaint

    def watched(texture: torch.Tensor, mask: np.ndarray) -> torch.Tensor:
        seen.update(texture=texture.clone(), mask=mask.copy())
        return inpaint(texture, mask)

    monkeypatch.setattr(pipeline, "texture_inpaint", watched)
    result = pipeline(mesh_of(vector), Image.new("RGB", (40, 30), (90, 60, 30)))

    painter = pipeline.models["multiview_model"]
    assert painter.cameras == out["camera_info"].tolist()
    for kind, maps in (("normal_maps", painter.controls[:6]), ("position_maps", painter.controls[6:])):
        for found, expected in zip(maps, out[kind].numpy()):
            assert np.abs(np.array(found).astype(int) - expected.astype(int)).max() <= 1, kind

    known = out["baked_mask"][..., 0].numpy()
    mask = seen["mask"] > 0
    assert (mask != known).mean() <= MASK_SHARE
    both = mask & known
    assert np.abs(seen["texture"].numpy() - out["baked_texture"].numpy())[both].max() <= 1e-4
    assert (torch.from_numpy(both).float().mean()) > 0.1

    vertices, faces, uv, uv_faces = pipeline.render.get_mesh()
    assert uv is not None and uv_faces is not None
    painted, reached = spread_over_vertices(seen["texture"].numpy(), seen["mask"], vertices, uv, faces, uv_faces)
    assert ((reached > 0) != (out["vertex_inpainted_mask"].numpy() > 0)).mean() <= MASK_SHARE
    sure = (reached > 0) & (out["vertex_inpainted_mask"].numpy() > 0)
    assert np.abs(painted - out["vertex_inpainted_texture"].numpy())[sure].max() <= 1e-4

    texture = np.array(result.visual.material.image).astype(int)
    final = out["final_texture"].numpy().astype(int)
    assert np.abs(texture - final)[sure].max() <= 2
    # The picture fill on recorded inputs gives the recorded picture.
    filled = fill_picture(out["vertex_inpainted_texture"].numpy(), out["vertex_inpainted_mask"].numpy())
    assert np.abs(filled.astype(int) - out["inpainted_uint8"].numpy().astype(int)).max() <= 2
    assert np.allclose(result.visual.uv, out["uv"].numpy(), atol=1e-6)
    coverage = pipeline.coverage
    assert coverage is not None and coverage.seen + coverage.blended > 0.5
    assert abs(coverage.seen + coverage.blended + coverage.filled - 1) < 1e-6
