"""Cameras, maps and previews: where things end up in the picture."""

import numpy as np
import pytest
import torch

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import AZIMUTH_DEG, View, frame, to_file_space, to_renderer_space
from hy3dgen.rendering.maps import depth_map, draw, normal_map, position_map
from hy3dgen.rendering.preview import BACKGROUND, render_picture, render_preview, render_silhouette
from hy3dgen.rendering.surface import prepare, prepare_mesh, smooth_normals, vertex_normals

BOX_FACES = np.array(
    [[0, 2, 1], [1, 2, 3], [4, 5, 6], [5, 7, 6], [0, 1, 4], [1, 5, 4], [2, 6, 3], [3, 6, 7], [0, 4, 2], [2, 4, 6],
     [1, 3, 5], [3, 7, 5]], np.int32,
)  # fmt: skip


def box(x: float = 0.5, y: float = 0.5, z: float = 0.5) -> Mesh:
    """Corner k has +x where bit 0 of k is set, +y for bit 1, +z for bit 2."""
    corners = np.array([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)], np.float32) * 2 - 1
    return Mesh(corners * np.float32([x, y, z]), BOX_FACES)


@pytest.mark.parametrize(
    ("name", "right", "toward"),
    [("front", (1, 0, 0), (0, 0, 1)), ("left", (0, 0, -1), (1, 0, 0)), ("back", (-1, 0, 0), (0, 0, -1)),
     ("right", (0, 0, 1), (-1, 0, 0))],
)  # fmt: skip
def test_view_directions(name: str, right: tuple[int, ...], toward: tuple[int, ...]) -> None:
    """Columns grow to the viewer's right, rows grow downwards, nearer points have smaller clip depth."""
    view = View(AZIMUTH_DEG[name])
    points = np.array([(0, 0, 0), right, (0, 1, 0), toward], np.float32) * 0.3
    _, clip = view.project(torch.from_numpy(to_renderer_space(points)))
    origin, at_right, above, near = clip.numpy()
    assert at_right[0] > origin[0] + 0.4 and abs(at_right[1] - origin[1]) < 1e-5
    assert above[1] < origin[1] - 0.4 and abs(above[0] - origin[0]) < 1e-5
    assert near[2] < origin[2]


def test_spaces_are_inverse_and_frame_fits() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert np.array_equal(to_file_space(to_renderer_space(points)), points)
    framed, centre, scale = frame(points)
    assert np.linalg.norm(framed, axis=1).max() == pytest.approx(1.15 / 2, rel=1e-5)
    np.testing.assert_allclose(framed, (points - centre) * np.float32(scale), atol=1e-6)
    assert np.isfinite(frame(np.ones((3, 3), np.float32))[0]).all()


def test_camera_on_its_target_is_refused() -> None:
    with pytest.raises(UsageError, match="distance"):
        View(0, distance=0).matrix()


def test_maps_of_a_box_face() -> None:
    drawing = draw(prepare_mesh(box()), View(0), (32, 48))
    covered = drawing.raster.covered
    centre = (16, 24)
    np.testing.assert_allclose(normal_map(drawing)[0, 0], 1)
    assert torch.isfinite(normal_map(drawing, camera_space=True)).all()
    position = position_map(drawing)
    half = 0.5 / (3**0.5)  # framed half side over the scale factor
    assert position[centre][1] == pytest.approx(0.5 - half, abs=1e-5)  # channel 1 is 0.5 - z of the file
    assert torch.equal(position[~covered], torch.ones_like(position[~covered]))
    depth = depth_map(draw(prepare_mesh(box()), View(30), (32, 32)))
    assert depth.min() == 0 and depth.max() == 1
    assert not depth_map(draw(prepare_mesh(box()), View(0, center=(9.0, 0, 0)), (8, 8))).any()


def test_vertex_normals_point_inward_in_renderer_space_and_outward_in_file_space() -> None:
    mesh = box()
    inward = prepare_mesh(mesh)
    assert (inward.normals * inward.positions).sum(1).max() < 0
    outward = smooth_normals(mesh.vertices, mesh.faces)
    assert (outward * mesh.vertices).sum(1).min() > 0.5


def test_smooth_normals_ignore_seams_and_degenerate_faces() -> None:
    mesh = box()
    split = mesh.vertices[mesh.faces].reshape(-1, 3)
    faces = np.concatenate([np.arange(36).reshape(-1, 3), [[0, 0, 1]]]).astype(np.int32)
    np.testing.assert_allclose(
        smooth_normals(split, faces)[:36], smooth_normals(mesh.vertices, mesh.faces)[mesh.faces.reshape(-1)], atol=1e-6
    )
    lonely = vertex_normals(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    assert np.array_equal(lonely, np.zeros((3, 3)))


def test_silhouette_has_the_aspect_of_the_object() -> None:
    mask = render_silhouette(box(x=0.2), View(0), (100, 100))
    rows, columns = mask.any(1).sum(), mask.any(0).sum()
    assert rows / columns == pytest.approx(2.5, rel=0.06)


def test_preview_shows_texture_on_the_right_side() -> None:
    """A red front and a green back must stay on their sides, on a neutral background, upright."""
    mesh = box()
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    uv = np.stack([np.where(corners[:, 2].reshape(-1, 3).mean(1).repeat(3) > 0, 0.25, 0.75), np.full(36, 0.5)], 1)
    texture = np.zeros((16, 16, 3), np.uint8)
    texture[:, :8], texture[:, 8:] = (250, 0, 0), (0, 250, 0)
    painted = Mesh(corners, np.arange(36, dtype=np.int32).reshape(-1, 3), uv.astype(np.float32), texture=texture)
    picture = render_preview(painted, size_px=40)
    assert picture.shape == (80, 80, 3) and picture.dtype == np.uint8
    assert tuple(picture[0, 0]) == BACKGROUND
    front, back = picture[20, 20], picture[60, 20]
    assert front[0] > 120 > front[1] and back[1] > 120 > back[0]
    flat = render_picture(painted, View(0), size_px=32, lit=False)
    assert tuple(flat[16, 16]) == (250, 0, 0)


def test_preview_of_clay_is_shaded() -> None:
    picture = render_picture(box(), View(35, 25), size_px=48)
    inside = picture[(picture != BACKGROUND).any(-1)]
    assert inside.std(axis=0).min() > 5


def test_errors() -> None:
    with pytest.raises(UsageError, match="size_px"):
        render_preview(box(), size_px=0)
    with pytest.raises(MeshError, match="at least one triangle"):
        render_preview(Mesh(np.zeros((3, 3), np.float32), np.zeros((0, 3), np.int32)))
    with pytest.raises(MeshError, match="of 3 vertices"):
        prepare(np.zeros((3, 3)), np.array([[0, 1, 3]]))
    with pytest.raises(MeshError, match="texture coordinates"):
        prepare(np.zeros((3, 3)), np.array([[0, 1, 2]]), np.zeros((2, 2)))
