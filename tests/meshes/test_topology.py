"""Edges, parts, volume and orientation on meshes with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hy3dgen.meshes import topology
from hy3dgen.meshes.mesh import Mesh
from tests.meshes import shapes


def test_volume_and_area_of_a_cube():
    cube = shapes.box(3.0)
    assert topology.volume(cube) == pytest.approx(27.0, rel=1e-6)
    assert topology.area(cube) == pytest.approx(54.0, rel=1e-6)
    assert topology.volume(shapes.turned(cube)) == pytest.approx(-27.0, rel=1e-6)


@given(st.floats(-6, 6), st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=25, deadline=None)
def test_volume_scales_and_does_not_move(exponent: float, shift: tuple[float, float, float]):
    scale = 10.0**exponent
    mesh = shapes.bumpy(2, 1)
    moved = mesh.with_(vertices=((mesh.vertices + np.float32(shift)) * scale).astype(np.float32))
    assert topology.volume(moved) == pytest.approx(topology.volume(mesh) * scale**3, rel=1e-4)


def test_borders_and_watertightness():
    assert topology.is_watertight(shapes.ball(1))
    assert not topology.is_watertight(shapes.sheet(4))
    assert len(topology.boundary_edges(shapes.sheet(4).faces)) == 16
    assert not topology.is_watertight(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))


def test_seams_of_a_uv_map_are_not_holes():
    """Vertices copied for the UV map share their position: the surface is still closed."""
    cube = shapes.box()
    split = Mesh(cube.vertices[cube.faces.reshape(-1)], np.arange(36, dtype=np.int32).reshape(-1, 3))
    assert not topology.is_watertight(split)
    assert topology.is_watertight(split.with_(uv=np.zeros((36, 2), np.float32)))


def test_non_manifold_edge_is_found():
    fan = Mesh(np.eye(5, 3, dtype=np.float32), np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]], np.int32))
    assert topology.non_manifold_edges(fan.faces).tolist() == [[0, 1]]


def test_parts_by_edge_and_by_vertex_differ_where_they_touch_in_a_point():
    faces = np.array([[0, 1, 2], [2, 3, 4]], np.int32)
    assert topology.parts_by_edge(faces).tolist() == [0, 1]
    assert topology.parts_by_vertex(faces, 5).tolist() == [0, 0]


@given(st.integers(0, 10_000), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_orient_undoes_any_mix_of_windings(seed: int, share: float):
    mesh = shapes.join(shapes.bumpy(1, 3), shapes.ball(1, centre=(4.0, 0.0, 0.0)))
    flip = np.random.default_rng(seed).random(len(mesh.faces)) < share
    mixed = topology.turn(mesh, flip)
    fixed, turned = topology.orient(mixed)
    assert np.array_equal(fixed.faces[~flip], mesh.faces[~flip])
    assert topology.volume(fixed) == pytest.approx(topology.volume(mesh), rel=1e-6)
    assert turned == flip.sum()
    assert topology.orient(fixed)[1] == 0


def test_orient_keeps_cavities_and_turns_solids():
    """A hollow ball: the inner wall looks into the cavity, also after the whole came inside out."""
    hollow = shapes.join(shapes.ball(2), shapes.turned(shapes.ball(1, radius=0.5)))
    assert topology.orient(hollow)[1] == 0
    fixed, _ = topology.orient(shapes.turned(hollow))
    assert np.array_equal(np.sort(fixed.faces, 1), np.sort(hollow.faces, 1))
    assert topology.volume(fixed) == pytest.approx(topology.volume(hollow), rel=1e-6)
    beside = shapes.join(shapes.ball(2), shapes.turned(shapes.ball(1, radius=0.5, centre=(3.0, 0.0, 0.0))))
    assert topology.orient(beside)[1] == 80


def test_orient_leaves_a_one_sided_band_alone():
    count = 12
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    rim = []
    for side in (-0.3, 0.3):
        reach = 1 + side * np.cos(angle / 2)
        rim.append(np.stack([np.cos(angle) * reach, np.sin(angle) * reach, side * np.sin(angle / 2)], 1))
    faces = []
    for i in range(count):
        j = (i + 1) % count
        a, b, c, d = i, i + count, j, j + count
        if j == 0:
            c, d = d, c
        faces += [[a, c, b], [c, d, b]]
    band = Mesh(np.concatenate(rim).astype(np.float32), np.array(faces, np.int32))
    fixed, _ = topology.orient(band)
    assert not topology.consistent_winding(fixed.faces)
    assert len(fixed.faces) == len(faces)


def test_merge_positions_knows_signed_zero_and_nan():
    points = np.array([[0.0, 1, 2], [-0.0, 1, 2], [5, 5, 5], [np.nan, 0, 0], [np.nan, 0, 0]])
    first, group = topology.merge_positions(points)
    assert group[0] == group[1] != group[2]
    assert group[3] != group[4]
    assert first[group[1]] == 0


def test_compact_carries_everything_along():
    mesh = shapes.box().with_(uv=np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2))
    keep = np.zeros(12, bool)
    keep[3] = True
    one = topology.compact(mesh, keep)
    assert one.faces.shape == (1, 3) and one.vertices.shape == (3, 3)
    assert np.array_equal(one.vertices[one.faces[0]], mesh.vertices[mesh.faces[3]])
    assert np.array_equal(one.uv[one.faces[0]], mesh.uv[mesh.faces[3]])
