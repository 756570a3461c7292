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

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hy3dgen.shapegen.models.autoencoders.decoding import surface_cells

Evaluate = Callable[[int, Tensor | None], Tensor]

SMALLEST_START = 24  # cells per axis; coarser grids save nothing worth having
SATURATED = 0.95  # beyond this |value| the field may be clipped and says nothing about distance
RESOLVED_JUMP = 0.9  # largest change per cell, near the surface, of a grid that follows the field
SATURATING_JUMP = 0.6  # above this, second differences may be clipped: use distances as well
HALF_DIAGONAL = 0.87  # of a cell, in cells: how far its nearest corner can be from a surface inside


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
    if level:
        values += np.float32(level)
    return torch.from_numpy(values)


def compile_loops() -> None:
    """Have the walk's loops compiled, or read from disk, before a GPU waits for them."""

    def ball(resolution: int, flat: Tensor | None) -> Tensor:
        points = np.arange((resolution + 1) ** 3) if flat is None else flat.numpy()
        axes = np.stack(np.unravel_index(points, (resolution + 1,) * 3)) / resolution - 0.5
        return torch.from_numpy((0.3 - np.sqrt((axes**2).sum(axis=0))).astype(np.float32))

    lean_walk(ball, 2 * SMALLEST_START, level=0.0, min_resolution=0)
    nothing = np.zeros(0, dtype=np.int64)
    surface_cells.union(nothing, nothing, 1)  # the ball has no gaps to close


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
    grid, coarse = state.values, state.resolution
    saturating = jump > SATURATING_JUMP
    reach = np.float32(min(HALF_DIAGONAL * jump, SATURATED) if saturating else 0.0)
    cells, doubts = surface_cells.possible_cells(grid, state.cells, reach)
    children = surface_cells.children(cells, coarse, finer)
    if not saturating:
        doubt = np.zeros(coarse**3, dtype=np.float32)
        doubt[cells] = doubts
        points = surface_cells.corner_points(children, finer)
        signs = surface_cells.signs_by_interpolation(grid, doubt, points, finer)
        children = surface_cells.uncertain_cells(signs, children, finer)
    fine = _unknown(finer) if last else _interpolated(grid, finer).reshape(-1)
    known = np.zeros(fine.shape, dtype=bool)

    def fill(points: np.ndarray) -> None:
        known[points] = True
        fine[points] = ask(points)

    if len(children):
        points = surface_cells.corner_points(children, finer)
        same, values = _answered(state, points, finer)
        known[points[same]] = True
        fine[points[same]] = values
        fill(points[~known[points]])
        children = _close(fine, known, points, children, finer, fill)
    shape = (finer + 1,) * 3
    return Level(fine.reshape(shape), known.reshape(shape), children)


def _answered(state: Level, points: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool: points of the finer grid that are points of the coarse one and known there; and their values."""
    places = surface_cells.answered(state.values, state.known, points, finer)
    same = places >= 0
    return same, state.values.reshape(-1)[places[same]]


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
    while len(new):
        around = surface_cells.cells_around(new, resolution)
        added = surface_cells.open_cells(fine, known, around, resolution)
        points = surface_cells.corner_points(added, resolution)
        new = points[~known[points]]
        if len(new):
            fill(new)
            cells = surface_cells.union(cells, added, resolution**3)
    return cells


def _unknown(resolution: int) -> np.ndarray:
    """((resolution + 1)³,) float32 NaN. numpy's memory comes in large pages, and torch fills with several threads."""
    values = np.empty((resolution + 1) ** 3, dtype=np.float32)
    torch.from_numpy(values).fill_(float("nan"))
    return values


def _interpolated(grid: np.ndarray, finer: int) -> np.ndarray:
    """The coarse grid at every point of the finer one, (finer + 1)³ float32."""
    size = (finer + 1,) * 3
    volume = torch.from_numpy(grid)[None, None]
    return torch.nn.functional.interpolate(volume, size=size, mode="trilinear", align_corners=True)[0, 0].numpy()
