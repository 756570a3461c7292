"""Projection onto the texture: seams, what no view shows, one rasterisation a view."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hy3dgen.errors import UsageError
from hy3dgen.meshes.io import from_trimesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.rendering import maps
from hy3dgen.rendering.surface import welded
from hy3dgen.texgen import bake
from hy3dgen.texgen.pipelines import Hunyuan3DPaintPipeline, Hunyuan3DTexGenConfig

SIZE = 512


class PositionPainter:
    """Paints every point with its own position, so that colours are smooth over the whole surface."""

    view_size = SIZE

    def __call__(self, images: list[Image.Image], controls: list[Image.Image], cameras: list[int]) -> list[Image.Image]:
        return controls[len(cameras) :]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Hunyuan3DPaintPipeline:
    monkeypatch.setattr(Hunyuan3DPaintPipeline, "load_models", lambda self: None)
    made = Hunyuan3DPaintPipeline(
        Hunyuan3DTexGenConfig(None, "", device="cpu", render_size=SIZE, texture_size=SIZE, fill="surface")
    )
    made.models = {"multiview_model": PositionPainter()}
    return made


@pytest.fixture
def ball_with_uv() -> Mesh:
    return unwrap(from_trimesh(trimesh.creation.icosphere(subdivisions=3)), size_px=SIZE)


def sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear colours as a viewer samples them, (N, 3) float."""
    grid = torch.from_numpy(np.stack([uv[:, 0] * 2 - 1, (1 - uv[:, 1]) * 2 - 1], axis=-1)).float()
    picture = torch.from_numpy(texture).permute(2, 0, 1)[None].float()
    found = torch.nn.functional.grid_sample(picture, grid[None, None], align_corners=True, padding_mode="border")
    return found[0, :, 0].T.numpy()


def test_no_seams(pipeline: Hunyuan3DPaintPipeline, ball_with_uv: Mesh) -> None:
    """The two sides of every texture seam have one colour, within 2 of 255."""
    mesh = pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32), (200, 10, 10)))
    assert mesh.texture is not None and mesh.uv is not None
    colours = sampled(mesh.texture, mesh.uv)
    point = welded(mesh.vertices)
    order = np.argsort(point, kind="stable")
    same = point[order][1:] == point[order][:-1]
    differences = np.abs(colours[order][1:] - colours[order][:-1])[same]
    assert len(differences) > 50, "no seams to look at"
    assert differences.max() <= 2, np.sort(differences.max(axis=1))[-10:]


def test_unseen_parts_take_their_surroundings_colour(
    pipeline: Hunyuan3DPaintPipeline, ball_with_uv: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one view, the far side continues its rim; nothing of the empty atlas bleeds in."""
    pipeline.config.candidate_camera_azims, pipeline.config.candidate_camera_elevs = [0], [0]
    pipeline.config.candidate_view_weights = [1]
    monkeypatch.setattr(PositionPainter, "__call__", lambda *_: [Image.new("RGB", (SIZE, SIZE), (10, 200, 90))])
    mesh = pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32)))
    assert mesh.texture is not None and mesh.uv is not None
    assert np.abs(sampled(mesh.texture, mesh.uv) - (10, 200, 90)).max() < 1.01
    coverage = pipeline.coverage
    assert coverage is not None and 0.3 < coverage.filled < 0.8 and coverage.blended == 0


def test_each_view_is_rasterised_once(
    pipeline: Hunyuan3DPaintPipeline, ball_with_uv: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    draw = maps.draw
    monkeypatch.setattr(maps, "draw", lambda mesh, view, size: drawn.append(view) or draw(mesh, view, size))
    pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32)))
    assert len(drawn) == 6 and len(set(drawn)) == 6


def test_nothing_is_kept_where_drawing_is_fast(
    pipeline: Hunyuan3DPaintPipeline, ball_with_uv: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rasters went to host memory and back, 64 MB a view, instead of being drawn again in two milliseconds."""
    kept = pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32))).texture
    drawn: list[Any] = []
    draw = maps.draw
    monkeypatch.setattr(maps, "draw", lambda mesh, view, size: drawn.append(view) or draw(mesh, view, size))
    monkeypatch.setattr(bake, "automatic", lambda device: "triton")
    anew = pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32))).texture
    assert len(drawn) == 18 and len(set(drawn)) == 6 and pipeline._drawings._kept == {}
    assert kept is not None and anew is not None and np.array_equal(anew, kept)


def test_settings_that_do_not_fit(pipeline: Hunyuan3DPaintPipeline, ball_with_uv: Mesh) -> None:
    with pytest.raises(UsageError, match="graphcut"):
        pipeline.bake_from_multiview([], [], [], [], method="graphcut")
    pipeline.config.candidate_view_weights = [1]
    with pytest.raises(UsageError, match="weight"):
        pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32)))
    pipeline.config.candidate_camera_elevs = [45] * 6
    pipeline.config.candidate_view_weights = [1] * 6
    with pytest.raises(UsageError, match="elevation 45"):
        pipeline.paint(ball_with_uv, Image.new("RGB", (32, 32)))
    with pytest.raises(UsageError, match="v9"):
        Hunyuan3DTexGenConfig(None, "", "hunyuan3d-paint-v9")
