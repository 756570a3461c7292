"""Repair by index work: cuts, flaps and holes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from hy3dgen.meshes import repair, topology
from hy3dgen.meshes.cleanup import weld
from hy3dgen.meshes.mesh import Mesh
from tests.meshes import shapes


def touching_cubes() -> Mesh:
    """Two cubes that share one edge, so four faces meet there."""
    return weld(
        shapes.join(shapes.box(2.0), shapes.box(2.0).with_(vertices=shapes.box(2.0).vertices + np.float32([2, 2, 0])))
    )[0]


def test_shared_edge_is_cut_into_two_solids():
    mesh = touching_cubes()
    assert len(topology.non_manifold_edges(mesh.faces)) == 1
    fixed, added = repair.split_non_manifold(mesh)
    assert added == 2 and topology.is_watertight(fixed)
    assert topology.parts_by_edge(fixed.faces).max() == 1
    assert topology.volume(fixed) == pytest.approx(16.0, rel=1e-2)
    for part in (0, 1):
        piece = topology.compact(fixed, topology.parts_by_edge(fixed.faces) == part)
        assert topology.volume(piece) == pytest.approx(8.0, rel=1e-2)
    assert trimesh.Trimesh(fixed.vertices, fixed.faces).is_watertight, "welding on loading must not undo the cut"


@pytest.mark.parametrize("turn_deg", [0, 37, 90, 180, 271])
def test_cut_is_right_whatever_the_direction(turn_deg: int):
    angle = np.radians(turn_deg)
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    mesh = touching_cubes()
    turned = mesh.with_(vertices=(mesh.vertices @ matrix.T).astype(np.float32))
    fixed, _ = repair.split_non_manifold(turned)
    pieces = topology.parts_by_edge(fixed.faces)
    assert np.bincount(pieces).tolist() == [12, 12]


def test_cut_keeps_a_clean_mesh():
    mesh = shapes.torus(16)
    assert repair.split_non_manifold(mesh) == (mesh, 0)
    assert repair.repair(mesh) is mesh


def test_flap_without_thickness_goes_from_a_closed_surface():
    ball = shapes.ball(1)
    a, b, c = ball.faces[0]
    flap = ball.with_(faces=np.concatenate([ball.faces, [[a, b, c], [b, a, c]]]).astype(np.int32))
    assert topology.is_watertight(repair.repair(flap))
    assert len(repair.repair(flap).faces) == 80


def test_holes_are_filled_without_new_vertices():
    ball = shapes.ball(2)
    around = (ball.faces == ball.faces[40, 0]).any(1)
    torn = topology.compact(ball, ~around)
    loops = repair.boundary_loops(torn.faces)
    assert [len(loop) for loop in loops] == [around.sum()]
    closed, holes = repair.fill_holes(torn)
    assert holes == 1 and topology.is_watertight(closed) and topology.consistent_winding(closed.faces)
    assert len(closed.vertices) == len(torn.vertices)
    assert repair.fill_holes(torn, max_edges=4)[1] == 0


def test_large_opening_stays_open():
    assert repair.fill_holes(shapes.sheet(20))[1] == 0


def test_two_holes_that_touch_in_a_vertex_are_two_loops():
    flat = shapes.sheet(6)
    middle = 24
    ring = np.flatnonzero((flat.faces == middle).any(1))
    torn = topology.compact(flat, ~np.isin(np.arange(len(flat.faces)), ring[[0, 3]]))
    assert sorted(len(loop) for loop in repair.boundary_loops(torn.faces)) == [3, 3, 24]
