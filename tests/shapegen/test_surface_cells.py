"""The compiled loops of the lean walk against plain array code, on random cells and fields."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hy3dgen.shapegen.models.autoencoders.decoding import surface_cells

CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))


def corners_of(cells: np.ndarray, resolution: int) -> np.ndarray:
    """(8, n) flat point indices."""
    lowest = np.stack(np.unravel_index(cells, (resolution,) * 3))
    size = (resolution + 1,) * 3
    return np.stack([np.ravel_multi_index(tuple(lowest + corner[:, None]), size) for corner in CORNERS])


def some(rng: np.random.Generator, below: int, share: float) -> np.ndarray:
    """An ascending part of the numbers below ``below``."""
    return np.flatnonzero(rng.random(below) < share)


def doubt_of(grid: np.ndarray) -> np.ndarray:
    """Half the sum of second differences."""
    doubt = np.zeros_like(grid)
    for axis in range(3):
        values, total = np.moveaxis(grid, axis, 0), np.moveaxis(doubt, axis, 0)
        total[1:-1] += np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
    return doubt * np.float32(0.5)


def field(rng: np.random.Generator, resolution: int) -> np.ndarray:
    return rng.normal(size=(resolution + 1,) * 3).astype(np.float32)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("resolution", [1, 4, 9])
def test_neighbours_are_found(resolution: int, share: float) -> None:
    rng = np.random.default_rng(resolution)
    cells, points = some(rng, resolution**3, share), some(rng, (resolution + 1) ** 3, share)
    corners = corners_of(np.arange(resolution**3), resolution)
    np.testing.assert_array_equal(
        surface_cells.corner_points(cells, resolution), np.unique(corners_of(cells, resolution))
    )
    around = np.flatnonzero(np.isin(corners, points).any(axis=0))
    np.testing.assert_array_equal(surface_cells.cells_around(points, resolution), around)
    np.testing.assert_array_equal(surface_cells.union(cells, around, resolution**3), np.union1d(cells, around))


@pytest.mark.parametrize(("coarse", "finer"), [(3, 6), (3, 5), (5, 9), (4, 13)])
def test_children_are_the_cells_that_overlap(coarse: int, finer: int) -> None:
    cells = some(np.random.default_rng(finer), coarse**3, 0.2)
    inside = np.zeros((coarse,) * 3, dtype=bool)
    inside.reshape(-1)[cells] = True
    ends = [(n * coarse // finer, -(-(n + 1) * coarse // finer)) for n in range(finer)]
    expected = [
        inside[i[0] : i[1], j[0] : j[1], k[0] : k[1]].any() for i, j, k in itertools.product(ends, repeat=3)
    ]  # fmt: skip
    np.testing.assert_array_equal(surface_cells.children(cells, coarse, finer), np.flatnonzero(expected))


@pytest.mark.parametrize("reach", [0.0, 0.3])
@pytest.mark.parametrize("holes", [0, 20])
def test_possible_cells_equal_the_plain_ones(reach: float, holes: int) -> None:
    """A NaN of the network leaves out its cells, and those next to them that only a bound made possible."""
    rng = np.random.default_rng(1)
    grid = field(rng, 8) * np.float32(0.05) + np.linspace(-1, 1, 9, dtype=np.float32)
    grid.reshape(-1)[rng.integers(0, grid.size, holes)] = np.nan
    cells = some(rng, 8**3, 0.6)
    at = corners_of(cells, 8)
    values, doubt = grid.reshape(-1)[at], doubt_of(grid).reshape(-1)[at].max(axis=0)
    expected = (values.min(axis=0) - doubt <= 0) & (values.max(axis=0) + doubt >= 0)
    if reach:
        expected |= np.abs(values).min(axis=0) <= reach
    found, doubts = surface_cells.possible_cells(grid, cells, np.float32(reach))
    assert 0 < len(found) < len(cells)
    np.testing.assert_array_equal(found, cells[expected])
    np.testing.assert_array_equal(doubts, doubt[expected])


@pytest.mark.parametrize("finer", [12, 11])
def test_signs_by_interpolation_equal_the_plain_ones(finer: int) -> None:
    """In float32 and in one order, so that the same cells are taken whoever computes it."""
    rng = np.random.default_rng(finer)
    coarse = 6
    grid, doubt = field(rng, coarse), np.abs(rng.normal(size=coarse**3)).astype(np.float32) * np.float32(0.3)
    points = some(rng, (finer + 1) ** 3, 0.7)
    axes = np.stack(np.unravel_index(points, (finer + 1,) * 3)) * coarse
    base = np.minimum(axes // finer, coarse - 1)
    weight = ((axes - base * finer) / finer).astype(np.float32)
    value = np.zeros(len(points), dtype=np.float32)
    for corner in CORNERS:
        share = np.prod(np.where(corner[:, None] == 1, weight, 1 - weight), axis=0)
        value += share * grid[tuple(base + corner[:, None])]
    off = doubt.reshape((coarse,) * 3)[tuple(base)] * (4 * weight * (1 - weight)).max(axis=0)
    expected = np.zeros((finer + 1) ** 3, dtype=np.uint8)
    expected[points] = (value - off <= 0) * np.uint8(1) + (value + off >= 0) * np.uint8(2)
    signs = surface_cells.signs_by_interpolation(grid, doubt, points, finer)
    np.testing.assert_array_equal(signs, expected)

    cells = some(rng, finer**3, 0.5)
    seen = np.bitwise_or.reduce(signs[corners_of(cells, finer)], axis=0)
    np.testing.assert_array_equal(surface_cells.uncertain_cells(signs, cells, finer), cells[seen == 3])


def test_open_cells_have_a_sign_change_and_a_gap() -> None:
    rng = np.random.default_rng(4)
    values, known, cells = field(rng, 7).reshape(-1), rng.random(8**3) < 0.8, some(rng, 7**3, 0.7)
    at = corners_of(cells, 7)
    inside, outside = (known[at] & (values[at] > 0)).any(axis=0), (known[at] & ~(values[at] > 0)).any(axis=0)
    expected = cells[inside & outside & ~known[at].all(axis=0)]
    assert 0 < len(expected) < len(cells)
    np.testing.assert_array_equal(surface_cells.open_cells(values, known, cells, 7), expected)


@pytest.mark.parametrize(("coarse", "finer"), [(4, 8), (4, 7), (3, 9), (4, 6)])
def test_points_known_on_a_coarser_grid_are_found_there(coarse: int, finer: int) -> None:
    rng = np.random.default_rng(finer)
    grid, known = field(rng, coarse), rng.random((coarse + 1,) * 3) < 0.6
    points = some(rng, (finer + 1) ** 3, 0.9)
    expected = []
    for place in zip(*np.unravel_index(points, (finer + 1,) * 3), strict=True):
        there = [divmod(int(n) * coarse, finer) for n in place]
        at = tuple(whole for whole, _ in there)
        is_there = all(rest == 0 for _, rest in there) and known[at]
        expected.append(np.ravel_multi_index(at, known.shape) if is_there else -1)
    np.testing.assert_array_equal(surface_cells.answered(grid, known, points, finer), expected)
