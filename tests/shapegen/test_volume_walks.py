"""Coarse-to-fine decoding must give the dense mesh, from far fewer values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hy3dgen.shapegen.models.autoencoders.decoding.hierarchical import Evaluate, reference_walk
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import ladder_of
from hy3dgen.shapegen.models.autoencoders.decoding.lean import lean_ladder, lean_walk
from hy3dgen.shapegen.models.autoencoders.surface_extractors import marching_cubes


class Scene:
    """A truncated distance field of balls, rings and boxes, with a smooth disturbance; counts what is asked."""

    def __init__(self, seed: int, truncation: float, noise: float, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.parts = [self.part(rng) for _ in range(rng.integers(1, 5))]
        self.waves, self.phases = rng.normal(size=(5, 3)) * 20, rng.uniform(0, 6, 5)
        self.truncation, self.noise, self.scale = truncation, noise, scale
        self.asked = 0

    @staticmethod
    def part(rng: np.random.Generator) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return int(rng.integers(0, 3)), rng.uniform(-0.45, 0.45, 3), turn, rng.uniform(0.12, 0.4, 3)

    def inside_distance(self, points: np.ndarray) -> np.ndarray:
        nearest = np.full(len(points), -9.0)
        for kind, centre, turn, size in self.parts:
            x = (points - centre) @ turn
            if kind == 0:
                distance = np.linalg.norm(x, axis=1) - size[0]
            elif kind == 1:
                distance = np.hypot(np.hypot(x[:, 0], x[:, 1]) - size[0], x[:, 2]) - size[1] / 4
            else:
                beyond = np.abs(x) - size
                distance = np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0)
            nearest = np.maximum(nearest, -distance)
        return nearest

    def __call__(self, resolution: int, flat: torch.Tensor | None) -> torch.Tensor:
        indices = np.arange((resolution + 1) ** 3) if flat is None else flat.numpy()
        self.asked += len(indices)
        axis = np.linspace(-1.01, 1.01, resolution + 1)
        points = np.stack([axis[i] for i in np.unravel_index(indices, (resolution + 1,) * 3)], axis=1)
        values = np.clip(self.inside_distance(points) / self.truncation, -1, 1)
        values += self.noise * np.sin(points @ self.waves.T + self.phases).sum(axis=1)
        return torch.from_numpy((self.scale * values).astype(np.float32))


def dense(evaluate: Evaluate, resolution: int) -> torch.Tensor:
    return evaluate(resolution, None).view((resolution + 1,) * 3)


def assert_same_mesh(got: torch.Tensor, want: torch.Tensor, level: float = 0.0, atol: float = 0.0) -> None:
    expected, found = marching_cubes(want, level), marching_cubes(got, level)
    if expected is None:
        assert found is None
        return
    assert found is not None
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=atol)


FEW = settings(max_examples=10, deadline=None, derandomize=True, database=None, phases=[Phase.generate])


@FEW
@given(
    seed=st.integers(0, 10_000),
    resolution=st.sampled_from([48, 64, 65, 70]),
    truncation=st.sampled_from([0.02, 0.05, 0.08, 0.2]),
    noise=st.sampled_from([0.0, 0.02]),
)
def test_lean_walk_gives_the_dense_mesh(seed: int, resolution: int, truncation: float, noise: float) -> None:
    scene = Scene(seed, truncation, noise)
    whole = dense(scene, resolution)
    scene.asked = 0
    grid = lean_walk(scene, resolution, level=0.0, min_resolution=63)
    nested = resolution in (48, 64)  # else the points of a coarser grid are not among the finer one's
    assert scene.asked <= whole.numel() * (1.0 if nested else 1.2)
    known = ~grid.isnan()
    assert torch.equal(grid[known], whole[known])
    assert_same_mesh(grid, whole)


@FEW
@given(seed=st.integers(0, 10_000), resolution=st.sampled_from([64, 63]), truncation=st.sampled_from([0.08, 0.2]))
def test_reference_walk_gives_the_dense_mesh(seed: int, resolution: int, truncation: float) -> None:
    """Features exceed a coarse cell (0.06) and the near-surface band (0.95 of the truncation)."""
    scene = Scene(seed, truncation, 0.0)
    grid = reference_walk(scene, resolution, level=0.0, min_resolution=31)
    assert_same_mesh(grid, dense(scene, resolution))


def test_lean_walk_asks_for_little() -> None:
    scene = Scene(3, 0.08, 0.0)
    whole = dense(scene, 128)
    scene.asked = 0
    grid = lean_walk(scene, 128, level=0.0, min_resolution=63)
    lean, scene.asked = scene.asked, 0
    reference_walk(scene, 128, level=0.0, min_resolution=63)
    assert_same_mesh(grid, whole)
    assert lean < 0.5 * scene.asked and lean < 0.08 * whole.numel()


@pytest.mark.parametrize("walk", [lean_walk, reference_walk])
def test_level_is_followed_e5(walk: object) -> None:
    """E5: the level was added where it must be subtracted. Steep values, so that no band hides a wrong sign test."""
    scene = Scene(11, 0.3, 0.0, scale=40.0)
    grid = walk(scene, 64, level=12.0, min_resolution=31)  # type: ignore[operator]
    assert_same_mesh(grid, dense(scene, 64), level=12.0, atol=1e-5)


@pytest.mark.parametrize("walk", [lean_walk, reference_walk])
@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_no_surface_is_an_empty_grid_e15(walk: object, value: float) -> None:
    """E15: nothing marked crashed the reference with an IndexError or a ValueError."""

    def flat_field(resolution: int, flat: torch.Tensor | None) -> torch.Tensor:
        return torch.full(((resolution + 1) ** 3 if flat is None else len(flat),), value)

    grid = walk(flat_field, 66, level=0.0, min_resolution=31)  # type: ignore[operator]
    assert grid.shape == (67, 67, 67) and grid.isnan().all()
    assert marching_cubes(grid, 0.0) is None


def test_a_surface_met_once_is_followed_to_its_end() -> None:
    """Growth: the lower half of the field is hidden from the first grids, as thin features may be."""
    scene = Scene(0, 0.1, 0.0)
    scene.parts = [(0, np.zeros(3), np.eye(3), np.full(3, 0.5))]

    def half_hidden(resolution: int, flat: torch.Tensor | None) -> torch.Tensor:
        values = scene(resolution, flat)
        if resolution < 64:
            indices = torch.arange(len(values)) if flat is None else flat
            values[indices // (resolution + 1) ** 2 < resolution // 2] = -1.0
        return values

    # 66 → 33: no point of the finer grid but the ends is copied from the coarser one
    grid = lean_walk(half_hidden, 66, level=0.0, min_resolution=0)
    whole = dense(scene, 66)
    whole[0], whole[-1] = -1.0, -1.0
    found, expected = marching_cubes(grid, 0.0), marching_cubes(whole, 0.0)
    assert found is not None and expected is not None
    # the values along the hidden seam are copied from the coarse grid; everything away from it is the true ball
    low = found[0][:, 0].min()
    assert low == pytest.approx(expected[0][:, 0].min(), abs=1e-4)


def test_ladders() -> None:
    assert ladder_of(384) == [96, 192, 384] and ladder_of(255) == [63, 127, 255] and ladder_of(100) == [100]
    assert lean_ladder(256) == [32, 64, 128, 256] and lean_ladder(255)[-1] == 255 and lean_ladder(30) == [30]
