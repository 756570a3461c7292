"""The dense mesh from as few field values as possible.

Marching cubes needs the corners of the cells that the surface passes through, and nothing else. So: a small dense
grid, fine enough that the field is not a step function on it; then level by level, interpolate the known values,
bound the error of the interpolation by second differences, and evaluate the corners of those finer cells whose
sign is not certain. At the end of every level the evaluated set is grown until no cell with a sign change has a
corner missing, so a surface that was met anywhere is followed to its end.

What can be missed is a separate feature that no sample of the first grid feels: thinner than its cells and further
from every sample than the field's saturation. The dense grid of the same resolution is then the only remedy.
Works on host arrays; knows neither networks nor devices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Evaluate = Callable[[int, Tensor | None], Tensor]

SMALLEST_START = 24  # cells per axis; coarser grids save nothing worth having
SATURATED = 0.95  # beyond this |value| the field may be clipped and says nothing about distance
RESOLVED_JUMP = 0.9  # largest change per cell, near the surface, of a grid that follows the field
SATURATING_JUMP = 0.6  # above this, second differences may be clipped: use distances as well
HALF_DIAGONAL = 0.87  # of a cell, in cells: how far its nearest corner can be from a surface inside
CORNERS = np.array(list(itertools.product((0, 1), repeat=3)))  # (8, 3)


def lean_walk(evaluate: Evaluate, resolution: int, *, level: float, min_resolution: int) -> Tensor:
    """(g, g, g) float32 on the host: values at the corners of crossed cells (and some more), NaN elsewhere.

    evaluate: (resolution, flat indices or None for all) -> (n,) float32; level: of the surface;
    min_resolution: a grid this fine is trusted as the first one whatever the field looks like.
    """
    ladder = lean_ladder(resolution)
    first = ladder.pop(0)
    state = _dense(evaluate, first, level, None)
    while (jump := typical_jump(state.values)) > RESOLVED_JUMP and first < min_resolution and ladder:
        first = ladder.pop(0)
        state = _dense(evaluate, first, level, state)
    for finer in ladder:

        def ask(points: np.ndarray, finer: int = finer) -> np.ndarray:
            return evaluate(finer, torch.from_numpy(points)).numpy() - np.float32(level)

        state = refine_level(ask, state, finer, jump, last=finer == resolution)
        jump *= first / finer
        first = finer
    values = state.values  # ours alone by now; at 384 cells a copy would be 228 MB
    values += np.float32(level)
    return torch.from_numpy(values)


@dataclass(frozen=True)
class Level:
    """What is known at one resolution r, g = r + 1.

    values: (g, g, g) float32 less the level of the surface, interpolated where not ``known``: (g, g, g) bool
    (NaN there on the last level);
    cells: flat indices, ascending, of the cells whose corners were all evaluated.
    """

    values: np.ndarray
    known: np.ndarray
    cells: np.ndarray

    @property
    def resolution(self) -> int:
        return self.values.shape[0] - 1


def _dense(evaluate: Evaluate, resolution: int, level: float, coarser: Level | None) -> Level:
    """Every point of a grid; what is known of a coarser one is not asked again."""
    size = resolution + 1
    values = np.empty(size**3, dtype=np.float32)
    points = np.arange(size**3)
    asked: np.ndarray | None = None
    if coarser is not None:
        same, answers = _answered(coarser, points, resolution)
        values[same] = answers
        asked = points[~same]
    answers = evaluate(resolution, None if asked is None else torch.from_numpy(asked)).numpy() - np.float32(level)
    values[slice(None) if asked is None else asked] = answers
    values = values.reshape((size,) * 3)
    return Level(values, np.ones(values.shape, dtype=bool), np.arange(resolution**3))


def lean_ladder(resolution: int) -> list[int]:
    """Ascending resolutions ending at ``resolution``, halved and rounded up, the first at least SMALLEST_START."""
    ladder = [resolution]
    while (ladder[-1] + 1) // 2 >= SMALLEST_START:
        ladder.append((ladder[-1] + 1) // 2)
    return ladder[::-1]


def typical_jump(grid: np.ndarray) -> float:
    """Change of value per cell along the axes near the surface (98th percentile); inf when nothing is near it."""
    jumps = []
    for axis in range(3):
        values = np.moveaxis(grid, axis, 0)
        near = np.minimum(np.abs(values[1:]), np.abs(values[:-1])) < SATURATED / 2
        near |= (values[1:] > 0) != (values[:-1] > 0)
        jumps.append(np.abs(values[1:] - values[:-1])[near])
    found = np.concatenate(jumps)
    return float(np.quantile(found, 0.98)) if len(found) else float("inf")


def refine_level(
    ask: Callable[[np.ndarray], np.ndarray], state: Level, finer: int, jump: float, *, last: bool
) -> Level:
    """One level down. ask: flat point indices of the finer grid -> values; jump: of the coarse one, per cell."""
    grid = state.values
    saturating = jump > SATURATING_JUMP
    cells, cell_doubt = _possible_cells(
        grid, _doubt(grid), state.cells, min(HALF_DIAGONAL * jump, SATURATED) if saturating else 0.0
    )
    children = _children(cells, state.resolution, finer)
    if not saturating:
        children = _uncertain_cells(grid, cell_doubt, children, finer)
    fine = np.full((finer + 1) ** 3, np.nan, dtype=np.float32) if last else _interpolated(grid, finer).reshape(-1)
    known = np.zeros(fine.shape, dtype=bool)

    def fill(points: np.ndarray) -> None:
        known[points] = True
        fine[points] = ask(points)

    if len(children):
        points = _corner_points(children, finer)
        same, values = _answered(state, points, finer)
        known[points[same]] = True
        fine[points[same]] = values
        fill(points[~known[points]])
        children = _close(fine, known, points, children, finer, fill)
    shape = (finer + 1,) * 3
    return Level(fine.reshape(shape), known.reshape(shape), children)


def _answered(state: Level, points: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: points of the finer grid that are points of the coarse one and known there; and their values."""
    coarse = state.resolution
    i, j, k = (axis * coarse for axis in np.unravel_index(points, (finer + 1,) * 3))
    same = (i % finer == 0) & (j % finer == 0) & (k % finer == 0)
    same[same] = state.known[i[same] // finer, j[same] // finer, k[same] // finer]
    return same, state.values[i[same] // finer, j[same] // finer, k[same] // finer]


def _doubt(grid: np.ndarray) -> np.ndarray:
    """(g, g, g) how far an interpolated value next to each point may be off: half the sum of second differences.

    A half, not the eighth of smooth fields: distances have kinks, and a kink between samples is off by that much.
    """
    doubt = np.zeros_like(grid)
    for axis in range(3):
        values, total = np.moveaxis(grid, axis, 0), np.moveaxis(doubt, axis, 0)
        total[1:-1] += np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
    return doubt * np.float32(0.5)


def _corner_values(grid: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(8, n) values at the corners of cells given by flat index."""
    g = grid.shape[0]
    base = _base_point(cells, g - 1)
    flat = grid.reshape(-1)
    return np.stack([flat[base + (i * g + j) * g + k] for i, j, k in CORNERS])


def _base_point(cells: np.ndarray, resolution: int) -> np.ndarray:
    """Flat point index of the lowest corner of each cell."""
    i, rest = np.divmod(cells, resolution * resolution)
    j, k = np.divmod(rest, resolution)
    g = resolution + 1
    return (i * g + j) * g + k


def _possible_cells(
    grid: np.ndarray, doubt: np.ndarray, cells: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Those of ``cells`` that the surface may touch, and (r, r, r) doubt per cell (0 for the others).

    reach: also cells with a corner value this close to the level.
    """
    resolution = grid.shape[0] - 1
    values = _corner_values(grid, cells)
    cell_doubt = _corner_values(doubt, cells).max(axis=0)
    low, high = values.min(axis=0), values.max(axis=0)
    possible = (low - cell_doubt <= 0) & (high + cell_doubt >= 0)
    if reach > 0:
        possible |= np.abs(values).min(axis=0) <= reach
    volume = np.zeros(resolution**3, dtype=np.float32)
    volume[cells[possible]] = cell_doubt[possible]
    return cells[possible], volume


def _children(cells: np.ndarray, coarse: int, finer: int) -> np.ndarray:
    """Flat indices, ascending, of the finer cells that overlap any of the coarse ones."""
    found = []
    axes = np.stack(np.unravel_index(cells, (coarse,) * 3))
    first = axes * finer // coarse
    end = -((-(axes + 1) * finer) // coarse)  # rounded up
    for i, j, k in itertools.product(range(int((end - first).max(initial=0))), repeat=3):
        at = first + np.array([[i], [j], [k]])
        at = at[:, (at < end).all(axis=0)]
        found.append((at[0] * finer + at[1]) * finer + at[2])
    return _distinct(found, finer**3)


def _uncertain_cells(grid: np.ndarray, cell_doubt: np.ndarray, children: np.ndarray, finer: int) -> np.ndarray:
    """Those finer cells whose corners are not all certain to have one sign, by interpolation."""
    points = _corner_points(children, finer)
    value, doubt = _predict(grid, cell_doubt, points, finer)
    signs = np.zeros((finer + 1) ** 3, dtype=np.uint8)
    signs[points] = (value - doubt <= 0) * np.uint8(1) + (value + doubt >= 0) * np.uint8(2)
    g = finer + 1
    base = _base_point(children, finer)
    seen = np.zeros(len(children), dtype=np.uint8)
    for i, j, k in CORNERS:
        seen |= signs[base + (i * g + j) * g + k]
    return children[seen == 3]


def _predict(grid: np.ndarray, cell_doubt: np.ndarray, points: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated values at points of the finer grid, and how far they may be off; 0 at points of the coarse grid."""
    coarse = grid.shape[0] - 1
    g = coarse + 1
    flat = grid.reshape(-1)
    axes = np.stack(np.unravel_index(points, (finer + 1,) * 3)) * coarse
    base = np.minimum(axes // finer, coarse - 1)
    weight = ((axes - base * finer) / finer).astype(np.float32)
    value = np.zeros(len(points), dtype=np.float32)
    for corner in CORNERS:
        share = np.prod(np.where(corner[:, None] == 1, weight, 1 - weight), axis=0)
        at = base + corner[:, None]
        value += share * flat[(at[0] * g + at[1]) * g + at[2]]
    doubt = cell_doubt[(base[0] * coarse + base[1]) * coarse + base[2]]
    return value, doubt * (4 * weight * (1 - weight)).max(axis=0)


def _corner_points(cells: np.ndarray, resolution: int) -> np.ndarray:
    """Flat point indices, ascending, of all corners of the cells."""
    g = resolution + 1
    base = _base_point(cells, resolution)
    return _distinct([base + (i * g + j) * g + k for i, j, k in CORNERS], g**3)


def _distinct(indices: list[np.ndarray], size: int) -> np.ndarray:
    """The different values among ``indices``, all below ``size``, ascending."""
    total = sum(map(len, indices))
    if total < size // 64:  # sorting a few is faster than looking through a mask of everything
        return np.unique(np.concatenate(indices)) if total else np.zeros(0, dtype=np.int64)
    marked = np.zeros(size, dtype=bool)
    for some in indices:
        marked[some] = True
    return np.flatnonzero(marked)


def _close(
    fine: np.ndarray,
    known: np.ndarray,
    new: np.ndarray,
    cells: np.ndarray,
    resolution: int,
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """Evaluate what is missing until every cell with a sign change among its known corners is known completely.

    fine, known: flat, changed through ``fill``; new: points known since the last look. Returns ``cells`` and those
    added.
    """
    g = resolution + 1
    while len(new):
        around = _cells_around(new, resolution)
        base = _base_point(around, resolution)
        inside, outside, missing = (np.zeros(len(around), dtype=bool) for _ in range(3))
        for i, j, k in CORNERS:
            at = base + (i * g + j) * g + k
            there, positive = known[at], fine[at] > 0
            inside |= there & positive
            outside |= there & ~positive
            missing |= ~there
        added = around[inside & outside & missing]
        points = _corner_points(added, resolution)
        new = points[~known[points]]
        if len(new):
            fill(new)
            cells = np.concatenate([cells, added])
    return _distinct([cells], resolution**3)


def _cells_around(points: np.ndarray, resolution: int) -> np.ndarray:
    """Flat indices, ascending, of all cells that have one of the points as corner."""
    found = []
    axes = np.stack(np.unravel_index(points, (resolution + 1,) * 3))
    for corner in CORNERS:
        at = axes - corner[:, None]
        at = at[:, ((at >= 0) & (at < resolution)).all(axis=0)]
        found.append((at[0] * resolution + at[1]) * resolution + at[2])
    return _distinct(found, resolution**3)


def _interpolated(grid: np.ndarray, finer: int) -> np.ndarray:
    """The coarse grid at every point of the finer one, (finer + 1)³ float32."""
    size = (finer + 1,) * 3
    volume = torch.from_numpy(grid)[None, None]
    return torch.nn.functional.interpolate(volume, size=size, mode="trilinear", align_corners=True)[0, 0].numpy()
