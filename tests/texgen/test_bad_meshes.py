"""Every step from a mesh to its texture with every kind of bad mesh: the right result, or a sentence for the user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.baking.inpaint import spread_over_vertices
from hy3dgen.baking.splat import back_project
from hy3dgen.errors import Hy3dgenError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.maps import depth_map, draw, normal_map, position_map
from hy3dgen.rendering.preview import render_preview
from hy3dgen.rendering.surface import prepare_mesh
from hy3dgen.texgen.bake import fill_over_surface
from hy3dgen.texgen.projection import PictureView, project_pictures
from tests.meshes.test_bad_input import BAD, GOOD

SIZE = 64


def with_uv(mesh: Mesh) -> Mesh:
    """The mesh with a map that may overlap but covers much of the page, whatever its vertices are."""
    count = len(mesh.vertices)
    angle = np.arange(count) * 2.399963
    radius = 0.5 * np.sqrt((np.arange(count) + 0.5) / max(count, 1))
    uv = 0.5 + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return mesh.with_(uv=uv.astype(np.float32))


def _picture() -> PictureView:
    pixels = np.zeros((48, 48, 4), np.uint8)
    pixels[8:40, 8:40] = (200, 90, 20, 255)
    return PictureView(Image.fromarray(pixels), 0)


def _maps(mesh: Mesh) -> list[np.ndarray]:
    drawing = draw(prepare_mesh(mesh), View(30), (SIZE, SIZE))
    return [f(drawing).numpy() for f in (depth_map, normal_map, position_map)]


def _projected(mesh: Mesh) -> list[np.ndarray]:
    texture = project_pictures(mesh, [_picture()], texture_size=SIZE, device="cpu").mesh.texture
    assert texture is not None
    return [texture]


def _splatted(mesh: Mesh) -> list[np.ndarray]:
    drawing = draw(prepare_mesh(mesh), View(30), (SIZE, SIZE))
    return [part.numpy() for part in back_project(torch.full((SIZE, SIZE, 3), 0.5), drawing, (SIZE, SIZE))]


def _filled(mesh: Mesh) -> list[np.ndarray]:
    known = np.zeros((SIZE, SIZE), np.uint8)
    known[10:20, 10:50] = 255
    return [fill_over_surface(np.full((SIZE, SIZE, 3), 0.25, np.float32), known, prepare_mesh(mesh))]


def _spread(mesh: Mesh) -> list[np.ndarray]:
    known = np.zeros((SIZE, SIZE), np.uint8)
    known[10:20, 10:50] = 255
    assert mesh.uv is not None
    texture = np.full((SIZE, SIZE, 3), 0.25, np.float32)
    return list(spread_over_vertices(texture, known, mesh.vertices, mesh.uv, mesh.faces, mesh.faces))


def _preview(mesh: Mesh) -> list[np.ndarray]:
    return [np.asarray(render_preview(mesh, size_px=SIZE))]


STEPS: dict[str, Callable[[Mesh], list[np.ndarray]]] = {
    "maps": _maps,
    "project_pictures": _projected,
    "back_project": _splatted,
    "fill_over_surface": _filled,
    "spread_over_vertices": _spread,
    "preview": _preview,
}
# what must be refused, and what must come through
NO_SURFACE = {"empty", "points only", "all nan", "missing vertex", "negative vertex"}
USABLE = {"one face", "duplicate", "index repeated", "non-manifold", "turned", "mixed winding", "1e-6", "1e6"}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("step", STEPS)
def test_finite_pictures_or_a_sentence(step: str, kind: str) -> None:
    given = with_uv(BAD[kind])
    try:
        pictures = STEPS[step](given)
    except Hy3dgenError as error:
        assert len(str(error).split()) > 4, "an error must be a sentence"
        assert kind not in USABLE
        return
    assert kind not in NO_SURFACE or step == "spread_over_vertices"
    assert all(np.isfinite(picture).all() for picture in pictures)


@pytest.mark.parametrize("kind", ["1e-6", "1e6", "duplicate", "index repeated"])
@pytest.mark.parametrize("step", ["maps", "project_pictures", "back_project", "preview"])
def test_scale_and_copies_change_no_picture(step: str, kind: str) -> None:
    """Scaling rounds, so that a pixel may fall on another face; copies of faces count twice in a vertex's normal."""
    expected, found = STEPS[step](with_uv(GOOD)), STEPS[step](with_uv(BAD[kind]))
    for picture, other in zip(expected, found, strict=True):
        apart = np.abs(picture.astype(float) - other) > (2 if picture.dtype == np.uint8 else 5e-3)
        assert apart.mean() < 0.03
