"""``--texture project`` on a sphere whose true colours are known."""

import numpy as np
import pytest
from PIL import Image

from hy3dgen.errors import ImageError, MeshError, UsageError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import AZIMUTH_DEG, View
from hy3dgen.rendering.preview import render_picture
from hy3dgen.runtime.stages import recording
from hy3dgen.texgen.projection import PictureView, project_pictures
from tests.baking.shapes import cup, picture, sampled, seam_samples, smooth_colour, sphere

FOUR = tuple(AZIMUTH_DEG.values())


def views(mesh: Mesh, azimuths: tuple[float, ...]) -> list[PictureView]:
    return [PictureView(picture(mesh, azimuth), azimuth) for azimuth in azimuths]


@pytest.mark.parametrize("azimuths", [FOUR, (0.0,)])
def test_colours_agree_on_both_sides_of_every_seam(azimuths: tuple[float, ...]) -> None:
    mesh = sphere()
    texture = project_pictures(mesh, views(mesh, azimuths), texture_size=512, device="cpu").mesh.texture
    assert texture is not None
    left, right = seam_samples(mesh)
    difference = np.abs(sampled(texture, left) - sampled(texture, right))
    assert difference.max() <= 2.0


def test_seen_colours_are_the_true_ones_and_coverage_adds_up() -> None:
    mesh = sphere()
    with recording() as run:
        result = project_pictures(mesh, views(mesh, FOUR), texture_size=256, device="cpu")
    assert [record.name for record in run.stages] == ["maps", "bake", "fill"]
    assert mesh.uv is not None and result.mesh.texture is not None and mesh.texture is None
    error = np.abs(sampled(result.mesh.texture, mesh.uv) - smooth_colour(mesh.vertices)).max(axis=1)
    equator = np.abs(mesh.vertices[:, 1]) < 0.7
    assert error[equator].max() < 6 and np.median(error) < 1.5
    assert min(result.overlaps) > 0.98
    coverage = result.coverage
    assert coverage.seen + coverage.blended + coverage.filled == pytest.approx(1, abs=1e-6)
    assert coverage.blended > 0.3 and coverage.filled < 0.25


def test_one_view_leaves_half_to_be_filled_and_nothing_black() -> None:
    mesh = sphere()
    colours = np.tile([180.0, 90.0, 60.0], (len(mesh.vertices), 1))
    cutout = np.array(picture(mesh, 0, colours=colours))
    cutout[cutout[..., 3] == 0] = (0, 255, 0, 0)  # a background that must not show
    result = project_pictures(mesh, [PictureView(Image.fromarray(cutout), 0)], texture_size=128, device="cpu")
    assert result.mesh.texture is not None
    assert np.abs(result.mesh.texture.astype(int) - [180, 90, 60]).max() <= 2
    assert result.coverage.filled > 0.5


def test_symmetry_lends_the_colours_of_the_other_side() -> None:
    """Seen from the left only; the right side must show the same, mirrored, and the front picture must not move."""
    mesh = sphere()
    x, y, z = mesh.vertices.T
    colours = np.stack([127 + 100 * np.tanh(8 * z), 127 + 80 * y, np.full_like(x, 128)], 1)
    side = [PictureView(picture(mesh, 90, colours=colours), 90)]
    right = {}
    for symmetry in (True, False):
        painted = project_pictures(mesh, side, texture_size=256, symmetry=symmetry, device="cpu").mesh
        right[symmetry] = render_picture(painted, View(270), size_px=64, lit=False).astype(int)[20:44, 20:44]
    wanted = render_picture(painted, View(90), size_px=64, lit=False).astype(int)[20:44, 20:44][:, ::-1]
    assert np.abs(right[True] - wanted).mean() < 4
    assert np.abs(right[False] - wanted).mean() > 2 * np.abs(right[True] - wanted).mean()


def test_repeats_are_equal_and_the_mesh_is_not_changed() -> None:
    mesh = sphere()
    before = mesh.vertices.copy()
    first = project_pictures(mesh, views(mesh, (0.0, 90.0)), texture_size=64, device="cpu").mesh.texture
    second = project_pictures(mesh, views(mesh, (0.0, 90.0)), texture_size=64, device="cpu").mesh.texture
    assert first is not None and np.array_equal(first, second) and np.array_equal(before, mesh.vertices)


@pytest.mark.parametrize("elevation", [0.0, 15.0, 30.0, 45.0])
def test_the_back_of_a_cup_seen_from_above_is_like_its_front(elevation: float) -> None:
    """The tilted ray from the outer wall at the back goes to the inside: the back of a blue mug became cream."""
    mesh, inner = cup()
    outside, inside = np.array([30.0, 90.0, 120.0]), np.array([230.0, 210.0, 180.0])
    view = PictureView(
        picture(mesh, 0, colours=np.where(inner[:, None], inside, outside), elevation_deg=elevation), 0, elevation
    )
    painted = project_pictures(mesh, [view], texture_size=256, device="cpu").mesh
    back = render_picture(painted, View(180), size_px=128, lit=False).astype(float)[44:84, 50:78].reshape(-1, 3)
    assert np.abs(back - outside).max(axis=1).mean() < 12
    nearer = np.linalg.norm(back - outside, axis=1) < np.linalg.norm(back - inside, axis=1)
    assert nearer.all()


def test_a_picture_that_does_not_fit_is_reported() -> None:
    mesh = sphere()
    ring = np.zeros((64, 64, 4), np.uint8)
    rows, columns = np.mgrid[:64, :64] - 32
    ring[(np.hypot(rows, columns) < 30) & (np.hypot(rows, columns) > 24)] = (200, 100, 50, 255)
    with recording() as run:
        result = project_pictures(mesh, [PictureView(Image.fromarray(ring), 0)], texture_size=32, device="cpu")
    assert result.overlaps[0] < 0.6 and "fits the mesh poorly" in run.stages[0].warnings[0]


def test_errors_say_what_to_do() -> None:
    mesh = sphere()
    shown = PictureView(Image.new("RGBA", (8, 8), (10, 20, 30, 255)), 0)
    with pytest.raises(UsageError, match="at least one"):
        project_pictures(mesh, [])
    with pytest.raises(UsageError, match="8 texels"):
        project_pictures(mesh, [shown], texture_size=8)
    with pytest.raises(MeshError, match="unwrap"):
        project_pictures(mesh.with_(uv=None), [shown])
    with pytest.raises(MeshError, match="no faces"):
        project_pictures(mesh.with_(faces=np.zeros((0, 3), np.int32)), [shown])
    with pytest.raises(ImageError, match="transparent everywhere"):
        project_pictures(mesh, [PictureView(Image.new("RGBA", (8, 8)), 0)], device="cpu")
