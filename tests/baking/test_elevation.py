"""From how high a picture was taken, found again from its outline; and what a texture gains by it."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image

from hy3dgen.baking.elevation import CLEAR_GAIN, find_elevation
from hy3dgen.baking.texels import Surface
from hy3dgen.errors import ImageError
from hy3dgen.meshes.io import from_trimesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.preview import render_picture, render_silhouette
from hy3dgen.texgen.projection import PictureView, project_pictures
from tests.baking.shapes import sphere


def table() -> Mesh:
    """A plate on four thin legs with a back: its outline changes with the elevation, above and below level."""
    parts = [trimesh.creation.box((1.6, 0.1, 1.0))]
    parts.append(trimesh.creation.box((0.7, 0.5, 0.1)).apply_translation((0, 0.3, -0.45)))
    for x in (-0.7, 0.7):
        for z in (-0.4, 0.4):
            parts.append(trimesh.creation.box((0.1, 0.8, 0.1)).apply_translation((x, -0.45, z)))
    return from_trimesh(trimesh.util.concatenate(parts))


def outline(mesh: Mesh, elevation_deg: float) -> np.ndarray:
    return render_silhouette(mesh, View(0.0, elevation_deg), (240, 240)).astype(np.uint8) * 255


@pytest.mark.parametrize("elevation_deg", [-10.0, 0.0, 8.0, 20.0, 33.0])
def test_the_elevation_is_found_from_the_outline(elevation_deg: float) -> None:
    mesh = table()
    found = find_elevation(Surface.of(mesh), outline(mesh, elevation_deg), 0.0)
    assert abs(found.degrees - elevation_deg) <= 3.0
    assert found.overlap > 0.9 and found.overlap >= found.level_overlap


def test_alike_before_and_behind_means_from_above() -> None:
    """Such an outline is the same from as far below; the inside of a bowl was put under it."""
    mesh = from_trimesh(trimesh.creation.box((1.6, 0.4, 1.0)))
    found = find_elevation(Surface.of(mesh), outline(mesh, 20.0), 0.0)
    assert found.degrees >= 0


def test_an_outline_that_tells_nothing_leaves_the_level_view() -> None:
    mesh = sphere()
    found = find_elevation(Surface.of(mesh), outline(mesh, 30.0), 0.0)
    assert found.degrees == 0.0 and found.overlap == found.level_overlap
    noisy = outline(table(), 0.0)
    noisy[::7, 60:70] = 255
    found = find_elevation(Surface.of(table()), noisy, 0.0)
    assert found.degrees == 0.0 or found.overlap >= found.level_overlap + CLEAR_GAIN


def test_no_object_no_elevation() -> None:
    with pytest.raises(ImageError, match="transparent everywhere"):
        find_elevation(Surface.of(sphere()), np.zeros((64, 64), np.uint8), 0.0)


def test_a_picture_from_above_colours_the_top_and_not_the_front() -> None:
    """Taken for a level view, the colour of the seat ran over its edge and down the legs."""
    mesh = unwrap(table(), size_px=256)
    top = 0.05
    painted = mesh.with_(texture=None)
    seen = np.array(render_picture(_two_coloured(painted, top), View(0.0, 25.0), size_px=512, lit=False))
    cut = np.dstack([seen, np.asarray(Image.fromarray(outline(mesh, 25.0)).resize((512, 512)))])
    views = [PictureView(Image.fromarray(cut), 0.0)]
    errors = []
    for find in (False, True):
        made = project_pictures(mesh, views, texture_size=256, find_elevations=find, device="cpu").mesh
        shown = render_picture(made, View(0.0, 25.0), size_px=512, lit=False).astype(np.float64)
        inside = cut[..., 3] > 250
        errors.append(float(np.abs(shown[inside] - seen[inside]).mean()))
    assert errors[1] < 12 and errors[1] < 0.4 * errors[0], errors


def _two_coloured(mesh: Mesh, top: float) -> Mesh:
    """The mesh with a texture: green on top, red elsewhere; by a palette of two texels."""
    corners = mesh.vertices[mesh.faces]
    is_top = (np.abs(corners[..., 1] - top) < 1e-3).all(1)
    uv = np.repeat(np.where(is_top[:, None], 0.75, 0.25), 3, axis=0).repeat(2, axis=1).astype(np.float32)
    texture = np.zeros((2, 2, 3), np.uint8)
    texture[...] = (200, 40, 40)
    texture[0, 1] = (40, 200, 40)  # row 0 is at v = 1
    faces = np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3)
    return Mesh(
        mesh.vertices[mesh.faces.reshape(-1)], faces, uv=uv, texture=np.kron(texture, np.ones((8, 8, 1), np.uint8))
    )
