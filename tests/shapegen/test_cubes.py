"""Marching cubes as array code, beside scikit-image's on the same grids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes as lewiner

from hy3dgen.errors import UsageError
from hy3dgen.meshes import topology
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.shapegen.models.autoencoders import cubes
from hy3dgen.shapegen.models.autoencoders.surface_extractors import marching_cubes


def _waves(shape: tuple[int, int, int]) -> np.ndarray:
    """A smooth field whose surface stays away from the border of the grid; uneven sizes find swapped axes."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    field = 0.75 - np.sqrt(x * x + 1.3 * y * y + z * z) + 0.12 * np.sin(9 * x) * np.cos(7 * y + z) * np.sin(8 * z + 1)
    return field.astype(np.float32)


def _noise(size: int, seed: int) -> np.ndarray:
    """Values without any order, so that every case and every ambiguous face occurs; outside around them."""
    inner = np.random.default_rng(seed).standard_normal((size,) * 3).astype(np.float32)
    return np.pad(inner, 1, constant_values=-1)


def _mesh(grid: np.ndarray, level: float = 0.0) -> Mesh:
    vertices, faces = cubes.surface(torch.from_numpy(grid), level)
    return Mesh(vertices.numpy(), faces.to(torch.int32).numpy())


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_smooth_fields_give_the_vertices_and_faces_of_scikit_image(level: float) -> None:
    grid = _waves((31, 37, 29))
    ours = _mesh(grid, level)
    points, faces, _, _ = lewiner(grid, level)
    theirs = Mesh(points.astype(np.float32), faces.astype(np.int32))
    assert ours.vertices.shape == theirs.vertices.shape and ours.faces.shape == theirs.faces.shape
    apart, partner = cKDTree(theirs.vertices).query(ours.vertices)
    assert apart.max() < 2e-3  # scikit-image weighs with 1 / (epsilon + value), which moves points near a corner
    assert len(np.unique(partner)) == len(partner)
    assert topology.volume(ours) == pytest.approx(topology.volume(theirs), rel=1e-3)  # cells are cut differently
    assert topology.volume(ours) < 0
    assert topology.is_watertight(ours) and topology.consistent_winding(ours.faces)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_any_field_gives_a_closed_surface(seed: int) -> None:
    mesh = _mesh(_noise(9, seed))
    assert len(topology.boundary_edges(mesh.faces)) == 0
    assert topology.consistent_winding(mesh.faces)
    crowded = topology.edge_table(mesh.faces).counts
    assert (crowded % 2 == 0).all()
    assert np.isfinite(mesh.vertices).all()


def test_noise_encloses_what_scikit_image_encloses() -> None:
    """The decisions on ambiguous faces agree: with fixed ones the volume is off by a seventh."""
    grid = _noise(24, 1)
    points, faces, _, _ = lewiner(grid, 0.0)
    theirs = topology.volume(Mesh(points.astype(np.float32), faces.astype(np.int32)))
    assert topology.volume(_mesh(grid)) == pytest.approx(theirs, rel=5e-3)


def test_unknown_points_leave_exactly_the_dense_surface() -> None:
    grid = _waves((31, 37, 29))
    band = np.where(np.abs(grid) < 0.3, grid, np.nan).astype(np.float32)
    dense, sparse = _mesh(grid), _mesh(band)
    assert np.isnan(band).mean() > 0.3
    assert np.array_equal(dense.vertices, sparse.vertices) and np.array_equal(dense.faces, sparse.faces)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_faces_at_unknown_points_are_left_out(hole: float) -> None:
    grid = _waves((20, 20, 20))
    x, y, z = (int(n) for n in np.argwhere(np.abs(grid) < 0.05)[7])
    grid[x, y, z] = hole
    mesh = _mesh(grid)
    assert np.isfinite(mesh.vertices).all()
    assert len(topology.boundary_edges(mesh.faces)) > 0
    assert len(np.unique(mesh.faces)) == len(mesh.vertices)


def _ball() -> torch.Tensor:
    x = torch.linspace(-1, 1, 20)
    return 0.6 - (x[:, None, None] ** 2 + x[None, :, None] ** 2 + x[None, None, :] ** 2).sqrt()


@pytest.mark.parametrize("scale", [1e-6, 1e6, 1e37])
@pytest.mark.parametrize("on_host", [True, False])
def test_the_size_of_the_values_moves_nothing(on_host: bool, scale: float) -> None:
    def run(grid: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        if not on_host:
            vertices, faces = cubes.surface(grid, 0.0)
            return vertices.numpy(), faces.numpy()
        found = marching_cubes(grid, 0.0)
        assert found is not None
        return found

    expected, found = run(_ball()), run(_ball() * scale)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-4)
    assert np.array_equal(found[1], expected[1])


@pytest.mark.parametrize("shape", [(0, 0, 0), (1, 1, 1), (5, 1, 5)])
def test_grids_without_a_cell_have_no_surface(shape: tuple[int, int, int]) -> None:
    assert marching_cubes(torch.ones(shape), 0.0) is None


def test_infinite_values_make_no_vertices() -> None:
    walls = torch.where(_ball() > 0, torch.inf, -torch.inf)
    assert marching_cubes(walls, 0.0) is None
    assert len(cubes.surface(walls, 0.0)[1]) == 0


def test_a_grid_has_three_axes() -> None:
    with pytest.raises(UsageError, match=r"three axes.*\(3, 3\)"):
        marching_cubes(torch.zeros(3, 3), 0.0)


def test_one_cell_gives_one_face() -> None:
    cell = -torch.ones(2, 2, 2)
    cell[0, 0, 0] = 1
    found = marching_cubes(cell, 0.0)
    assert found is not None and len(found[1]) == 1
    assert np.array_equal(np.sort(found[0], axis=0), np.sort(cubes.surface(cell, 0.0)[0].numpy(), axis=0))


@pytest.mark.parametrize("fill", [-1.0, 1.0, float("nan")])
def test_nothing_to_extract_is_empty(fill: float) -> None:
    vertices, faces = cubes.surface(torch.full((4, 5, 6), fill), 0.0)
    assert vertices.shape == (0, 3) and faces.shape == (0, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_grid_on_the_device_gives_the_same_mesh_as_on_the_host() -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    grid = torch.from_numpy(_noise(40, 3))
    expected = cubes.surface(grid, 0.0)
    found = marching_cubes(grid.to(device), 0.0)
    assert found is not None
    np.testing.assert_allclose(found[0], expected[0].numpy(), atol=1e-6)
    assert np.array_equal(found[1], expected[1].numpy())
