"""Cleaning: what goes, what stays, and that it is done once and for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hy3dgen.errors import MeshError
from hy3dgen.meshes import cleanup, topology
from hy3dgen.meshes.mesh import Mesh
from tests.meshes import shapes


def with_face(mesh: Mesh, *corners: tuple[int, int, int]) -> Mesh:
    return mesh.with_(faces=np.concatenate([mesh.faces, np.array(corners, np.int32)]))


def same(a: Mesh, b: Mesh) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def test_a_clean_mesh_stays_as_it_is():
    mesh = shapes.bumpy(2, 5)
    cleaned, report = cleanup.clean(mesh)
    assert same(cleaned, mesh)
    assert report == cleanup.CleanReport(parts=1, watertight=True)


def test_everything_wrong_at_once_is_counted_and_removed():
    body = shapes.ball(2)
    crumb = shapes.ball(1, radius=0.05, centre=(1.5, 0.0, 0.0))
    dirty = shapes.join(shapes.turned(body), crumb, Mesh(np.full((3, 3), np.nan, np.float32), np.array([[0, 1, 2]])))
    dirty = with_face(dirty, (0, 0, 1), tuple(dirty.faces[7]), tuple(dirty.faces[8][[1, 2, 0]]))
    before = dirty.faces.copy(), dirty.vertices.copy()
    cleaned, report = cleanup.clean(dirty)
    assert (report.nonfinite_faces, report.degenerate_faces, report.duplicate_faces) == (1, 1, 2)
    assert (report.parts, report.parts_removed, report.faces_removed_with_parts) == (2, 1, 80)
    assert report.faces_turned == 320 and report.unreferenced_vertices == 3 and report.watertight
    assert report.volume_removed_share == pytest.approx(0.05**3, rel=0.2)
    assert topology.volume(cleaned) == pytest.approx(topology.volume(body), rel=1e-6)
    assert np.array_equal(dirty.faces, before[0]) and np.array_equal(dirty.vertices, before[1], equal_nan=True)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=40, deadline=None)
def test_cleaning_twice_changes_nothing_more(seed: int, scale: float):
    """Random soup with NaN, repeats, copies and wrong windings: one cleaning is enough, and the box never grows."""
    draw = np.random.default_rng(seed)
    vertices = (draw.integers(0, 4, (12, 3)) * scale).astype(np.float32)
    vertices[draw.random(12) < 0.1] = np.nan
    mesh = Mesh(vertices, draw.integers(0, 12, (int(draw.integers(1, 40)), 3)).astype(np.int32))
    try:
        once, report = cleanup.clean(mesh)
    except MeshError as error:
        assert "faces" in str(error)
        return
    twice, again = cleanup.clean(once)
    assert len(twice.faces) == len(once.faces)
    assert (again.degenerate_faces, again.duplicate_faces, again.nonfinite_faces) == (0, 0, 0)
    assert again.unreferenced_vertices == 0 and again.welded_vertices == 0 and again.watertight == report.watertight
    assert np.isfinite(once.vertices).all()
    assert (once.vertices.min(0) >= np.nanmin(vertices, 0)).all() and (
        once.vertices.max(0) <= np.nanmax(vertices, 0)
    ).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_does_not_matter(scale: float):
    mesh = shapes.join(shapes.ball(2), shapes.ball(1, radius=0.05, centre=(2.0, 0.0, 0.0)))
    scaled = mesh.with_(vertices=(mesh.vertices * scale).astype(np.float32))
    cleaned, report = cleanup.clean(scaled)
    assert report.parts_removed == 1 and len(cleaned.faces) == 320 and report.watertight


def test_soup_is_welded_into_a_closed_surface():
    ball = shapes.ball(2)
    soup = Mesh(ball.vertices[ball.faces.reshape(-1)], np.arange(960, dtype=np.int32).reshape(-1, 3))
    cleaned, report = cleanup.clean(soup)
    assert report.watertight and report.welded_vertices == 960 - len(ball.vertices) == 960 - len(cleaned.vertices)


def test_a_model_of_many_small_pieces_stays():
    """Each piece is far below 1 % of the whole, but none is small beside the others."""
    balls = shapes.join(*[shapes.ball(1, radius=0.1, centre=(float(i), 0.0, 0.0)) for i in range(300)])
    assert cleanup.clean(balls)[1].parts_removed == 0
    corners = np.random.default_rng(0).random((900, 3)).astype(np.float32)
    scales = Mesh(np.repeat(corners[::3], 3, 0) + corners * 0.05, np.arange(900, dtype=np.int32).reshape(-1, 3))
    kept, report = cleanup.clean(scales)
    assert report.parts == 300 and len(kept.faces) > 290


def test_a_large_open_part_beside_a_small_closed_one_stays():
    both = shapes.join(shapes.sheet(10), shapes.ball(1, radius=0.02, centre=(0.0, 2.0, 0.0)))
    assert len(cleanup.clean(both)[0].faces) >= 200


def test_small_holes_are_filled_on_request():
    ball = shapes.ball(2)
    torn = topology.compact(ball, np.arange(320) != 17)
    assert not cleanup.clean(torn)[1].watertight
    closed, report = cleanup.clean(torn, max_hole_edges=5)
    assert report.watertight and report.holes_filled == 1
    assert topology.volume(closed) == pytest.approx(topology.volume(ball), rel=1e-6)


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), "no faces"),
        (Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 5]], np.int32)), "vertex 5"),
        (Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, -1]], np.int32)), "vertex -1"),
        (Mesh(np.zeros((3, 2), np.float32), np.array([[0, 1, 2]], np.int32)), "shape"),
        (Mesh(np.full((3, 3), np.inf, np.float32), np.array([[0, 1, 2]], np.int32)), "infinite"),
        (Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)), "degenerate"),
        (Mesh(np.zeros((4, 3), np.float32), np.array([[0, 1, 2, 3]], np.int32)), "triangulate"),
    ],
)
def test_hopeless_meshes_get_a_sentence(mesh: Mesh, words: str):
    with pytest.raises(MeshError, match=words):
        cleanup.clean(mesh)


def strip(count: int, offset: int) -> np.ndarray:
    """``count`` faces hanging together, from vertex ``offset``."""
    return np.array([[i, i + 1, i + 2] for i in range(offset, offset + count)], np.int32)


def test_small_parts_by_the_reference_rule():
    """Exactly 0.5 % of the largest part stays, one face less goes; the vertices of what goes do too."""
    faces = np.concatenate([strip(4000, 0), strip(20, 5000), strip(18, 6000)])
    mesh = Mesh(np.random.default_rng(0).random((6100, 3)).astype(np.float32), faces)
    kept = cleanup.remove_small_parts(mesh)
    assert len(kept.faces) == 4020
    assert len(kept.vertices) == 6100 - 20
    assert np.array_equal(kept.vertices[kept.faces], mesh.vertices[mesh.faces[:4020]])


def test_small_parts_of_soup_stay():
    soup = Mesh(
        np.random.default_rng(0).random((900, 3)).astype(np.float32), np.arange(900, dtype=np.int32).reshape(-1, 3)
    )
    assert len(cleanup.remove_small_parts(soup).faces) == 300


def test_degenerate_faces_by_the_reference_rule():
    """Repeated indices and non-finite corners go; a face without area and a copy of a face stay."""
    vertices = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [np.inf, 0, 0]], np.float32)
    mesh = Mesh(vertices, np.array([[0, 1, 3], [0, 1, 3], [0, 1, 2], [0, 0, 1], [0, 1, 4]], np.int32))
    kept = cleanup.drop_degenerate_faces(mesh)
    assert kept.faces.tolist() == [[0, 1, 3], [0, 1, 3], [0, 1, 2]]
    assert len(kept.vertices) == 4
