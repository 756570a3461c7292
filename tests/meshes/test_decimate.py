"""Reduction: the count is met, the surface stays, and closed stays closed."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes import topology
from hy3dgen.meshes.decimate import reduce_faces
from hy3dgen.meshes.mesh import Mesh
from tests.meshes import shapes


@given(
    st.integers(0, 1000), st.integers(60, 1200), st.sampled_from([1e-6, 1.0, 1e6]), st.sampled_from(["auto", "none"])
)
@settings(max_examples=25, deadline=None)
def test_a_closed_mesh_stays_closed_near_and_within_its_box(seed: int, target: int, scale: float, finish: str):
    mesh = shapes.bumpy(3, seed, scale)
    before = mesh.vertices.copy()
    reduced = reduce_faces(mesh, target, finish=finish)
    assert target - 3 <= len(reduced.faces) <= target
    assert topology.is_watertight(reduced)
    assert topology.consistent_winding(reduced.faces)
    assert topology.volume(reduced) == pytest.approx(topology.volume(mesh), rel=max(0.01, 8 / target))
    span = np.ptp(mesh.vertices, axis=0).max()
    assert (reduced.vertices.min(0) >= mesh.vertices.min(0) - 0.06 * span).all()
    assert (reduced.vertices.max(0) <= mesh.vertices.max(0) + 0.06 * span).all()
    assert np.array_equal(mesh.vertices, before)


def test_torus_keeps_its_hole_and_its_area():
    mesh = shapes.torus(96)
    reduced = reduce_faces(mesh, 600)
    edges = len(topology.edge_table(reduced.faces).edges)
    assert len(reduced.vertices) - edges + len(reduced.faces) == 0  # Euler number of a torus
    assert topology.area(reduced) == pytest.approx(topology.area(mesh), rel=0.01)


def test_open_borders_stay_in_place():
    """fast-simplification eats borders; the own collapse only straightens them."""
    mesh = shapes.sheet(40)
    reduced = reduce_faces(mesh, 400)
    assert len(reduced.faces) <= 400
    rim = np.unique(topology.boundary_edges(reduced.faces))
    assert np.abs(reduced.vertices[rim][:, [0, 2]]).max(1) == pytest.approx(1.0, abs=2e-3)
    assert topology.area(reduced) == pytest.approx(topology.area(mesh), rel=5e-3)
    assert len(topology.non_manifold_edges(reduced.faces)) == 0
    corners = np.abs(reduced.vertices[:, [0, 2]]).sum(1)
    assert (corners > 1.99).sum() == 4


def test_flat_faces_vanish_without_error():
    """A finely divided cube needs no more than its corners: quadrics that fix nothing must not throw vertices away."""
    import trimesh

    fine = trimesh.creation.box((2, 2, 2)).subdivide().subdivide().subdivide()
    cube = reduce_faces(Mesh(fine.vertices.astype(np.float32), fine.faces.astype(np.int32)), 24)
    assert topology.volume(cube) == pytest.approx(8.0, rel=1e-4)
    assert np.abs(cube.vertices).max() == pytest.approx(1.0, abs=1e-3)


def test_planes_are_reduced_evenly_and_without_the_fast_pass(monkeypatch: pytest.MonkeyPatch):
    """In a plane every collapse costs nothing. One vertex once swallowed its neighbours, and five million faces took
    longer than anybody waited; the fast library does the same."""
    from benchmarks.surfaces import split_faces

    fine = shapes.box()
    for _ in range(6):
        fine = split_faces(fine)
    assert len(fine.faces) == 12 * 4**6
    monkeypatch.setattr("hy3dgen.meshes.decimate._fast", lambda *_, **__: pytest.fail("took the fast pass"))
    reduced = reduce_faces(fine, 3000)
    assert len(reduced.faces) == 3000 and topology.is_watertight(reduced)
    assert topology.volume(reduced) == pytest.approx(topology.volume(fine), rel=1e-5)
    assert np.bincount(reduced.faces.reshape(-1)).max() <= 24


def test_curved_meshes_take_the_fast_pass_and_very_large_ones_do_not(monkeypatch: pytest.MonkeyPatch):
    ball, taken = shapes.bumpy(5, 2), []
    from hy3dgen.meshes import decimate

    fast = decimate._fast
    monkeypatch.setattr(decimate, "_fast", lambda *given, **how: taken.append(1) or fast(*given, **how))
    assert len(reduce_faces(ball, 500).faces) <= 500 and taken
    taken.clear()
    monkeypatch.setattr(decimate, "_FAST_UP_TO", 10_000)
    assert len(reduce_faces(ball, 500).faces) <= 500 and not taken


def test_many_parts_reach_low_counts():
    """One pass of the fast method stops early on such meshes without a word."""
    many = shapes.join(*[shapes.ball(2, centre=(3.0 * i, 0.0, 0.0)) for i in range(10)])
    assert len(reduce_faces(many, 300).faces) in (298, 299, 300)


def test_same_input_same_output():
    mesh = shapes.bumpy(4, 2)
    first, second = (reduce_faces(mesh, 700) for _ in range(2))
    assert np.array_equal(first.vertices, second.vertices) and np.array_equal(first.faces, second.faces)


def test_small_meshes_and_targets():
    cube = shapes.box()
    assert reduce_faces(cube, 12) is cube
    with pytest.raises(UsageError, match="at least 4"):
        reduce_faces(cube, 3)
    with pytest.raises(UsageError, match="finish"):
        reduce_faces(cube, 8, finish="best")  # type: ignore[arg-type]
    with pytest.raises(MeshError, match="three different"):
        reduce_faces(Mesh(np.ones((30, 3), np.float32), np.arange(30, dtype=np.int32).reshape(-1, 3)), 5)


def test_what_cannot_be_reduced_is_said(caplog: pytest.LogCaptureFixture):
    loose = Mesh(
        np.random.default_rng(0).random((300, 3)).astype(np.float32), np.arange(300, dtype=np.int32).reshape(-1, 3)
    )
    with caplog.at_level(logging.WARNING):
        reduced = reduce_faces(loose, 10)
    assert len(reduced.faces) <= 10 or "asked for 10 faces" in caplog.text


def test_dirty_input_is_reduced_all_the_same():
    mesh = shapes.bumpy(3, 4)
    extra = np.concatenate([mesh.faces, mesh.faces[:5], [[0, 0, 1]], [[0, 1, len(mesh.vertices)]]]).astype(np.int32)
    dirty = Mesh(np.concatenate([mesh.vertices, np.full((1, 3), np.nan, np.float32)]), extra)
    reduced = reduce_faces(dirty, 300)
    assert np.isfinite(reduced.vertices).all() and topology.is_watertight(reduced)


@pytest.mark.extra
def test_pymeshlab_finish():
    pytest.importorskip("pymeshlab")
    mesh = shapes.bumpy(4, 2)
    reduced = reduce_faces(mesh, 500, finish="pymeshlab")
    assert 497 <= len(reduced.faces) <= 500 and topology.is_watertight(reduced)
    assert topology.volume(reduced) == pytest.approx(topology.volume(mesh), rel=0.02)
