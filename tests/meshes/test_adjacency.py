"""The compiled loops against plain array code, on random face lists with repeated, folded and crowded faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hy3dgen.errors import MeshError
from hy3dgen.meshes import topology
from hy3dgen.meshes.mesh import Mesh
from tests.meshes import shapes

FACES = st.tuples(st.integers(0, 60), st.integers(1, 25), st.integers(0, 10_000))


def _random_faces(count: int, num_vertices: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, num_vertices, (count, 3)).astype(np.int32)


@given(FACES)
@settings(max_examples=60, deadline=None)
def test_edges_are_those_that_sorting_finds(given_faces: tuple[int, int, int]):
    faces = _random_faces(*given_faces)
    table = topology.edge_table(faces)
    sides = np.stack([faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)], 1).astype(np.int64)
    edges, inverse, counts = np.unique(np.sort(sides, axis=1), axis=0, return_inverse=True, return_counts=True)
    assert np.array_equal(table.edges, edges.reshape(-1, 2))
    assert np.array_equal(table.counts, counts)
    assert np.array_equal(table.side_to_edge, inverse.reshape(-1))
    assert np.array_equal(table.forward, sides[:, 0] < sides[:, 1])
    assert np.array_equal(table.order, np.argsort(inverse.reshape(-1), kind="stable"))
    assert np.array_equal(table.side_to_edge[table.pairs()][:, 0], np.flatnonzero(counts == 2))


@given(FACES)
@settings(max_examples=60, deadline=None)
def test_parts_are_those_of_the_graph(given_faces: tuple[int, int, int]):
    faces = _random_faces(*given_faces)
    if len(faces) == 0:
        assert topology.parts_by_edge(faces).shape == topology.parts_by_vertex(faces, 5).shape == (0,)
        return
    edge = topology.edge_table(faces).side_to_edge
    shared = (edge[:, None] == edge).reshape(len(faces), 3, len(faces), 3).any((1, 3))
    assert np.array_equal(topology.parts_by_edge(faces), connected_components(coo_array(shared), directed=False)[1])
    touching = (faces[:, :, None, None] == faces).any((1, 3))
    found = topology.parts_by_vertex(faces, given_faces[1] + 3)
    labels = connected_components(coo_array(touching), directed=False)[1]
    assert len(np.unique(np.stack([found, labels]), axis=1).T) == labels.max() + 1 == found.max() + 1
    lowest = [faces[found == part].min() for part in range(found.max() + 1)]
    assert lowest == sorted(lowest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_rows_get_one_number(dtype: type):
    rows = np.random.default_rng(3).integers(-2, 3, (500, 5)).astype(dtype) * dtype(0.1)
    rows[7], rows[9] = np.nan, np.nan
    rows[11] = -rows[11] * 0  # signed zeros
    rows[12] = 0
    first, group = topology.merge_positions(rows)
    assert group[7] != group[9] and group[11] == group[12]
    known = ~np.isnan(rows[:, 0])
    assert np.array_equal(rows[first[group]][known], rows[known])
    assert len(first) == len(np.unique(rows[known] + 0, axis=0)) + 2
    assert np.array_equal(first, np.sort(first)) and np.array_equal(group[first], np.arange(len(first)))


def test_areas_and_volumes_are_those_of_the_formula():
    mesh = shapes.bumpy(2, 1)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.allclose(topology.face_crosses(mesh), cross, rtol=1e-12, atol=0)
    whole = topology.face_volumes(mesh)
    centre = (corners.reshape(-1, 3).min(0) + corners.reshape(-1, 3).max(0)) / 2
    assert np.allclose(whole, np.einsum("fi,fi->f", corners[:, 0] - centre, cross) / 6, atol=1e-14)
    flat = mesh.with_(vertices=mesh.vertices * np.array([1, 1, 0], np.float32))
    assert not topology.faces_without_area(mesh, threshold=1e-14).any()
    assert topology.faces_without_area(flat.with_(faces=flat.faces[:, [0, 1, 1]]), threshold=1e-14).all()


def test_indices_that_do_not_exist_are_refused():
    """The compiled loops check nothing themselves, so a wrong index would read foreign memory."""
    points = np.zeros((3, 3), np.float32)
    with pytest.raises(MeshError, match="indices from -1"):
        topology.edge_table(np.array([[0, 1, -1]], np.int32))
    with pytest.raises(MeshError, match="uses vertex 3"):
        topology.face_crosses(Mesh(points, np.array([[0, 1, 3]], np.int32)))
