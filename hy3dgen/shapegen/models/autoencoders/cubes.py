"""Marching cubes as array code, so that a grid that lives on an accelerator need not travel to the host.

The table of cases is made here from first principles: every face of a cell is crossed by lines that keep the inside on
one hand, the lines close to loops, and each loop is cut into triangles. A face whose corners alternate is decided by
the value at its saddle (Nielson and Hamann's asymptotic decider), which both cells of the face find alike, so surfaces
are closed. What lies between two faces inside a cell is not decided: a loop is always a disc, never a tunnel.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

# Corner c of a cell lies at (c & 1, c >> 1 & 1, c >> 2 & 1).
# The corners of each face against the clock, seen from outside.
_FACES = ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6))
_EDGES = tuple((c, c | 1 << axis) for axis in range(3) for c in range(8) if not c >> axis & 1)
_EDGE_OF = {frozenset(ends): number for number, ends in enumerate(_EDGES)}


def surface(grid: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """(vertices (V, 3) float32 in index units, faces (F, 3) int64) of a grid, on its device; both may be empty.

    grid: (x, y, z) float32, at least 2 along each axis; inside is above ``level``. What is not finite counts as
    unknown: faces that would touch an edge to it are left out. Faces enclose a negative volume, as scikit-image's do.
    Deterministic; vertices are in the order of the grid. Works in memory of some bytes per grid point.
    """
    shape = tuple(int(n) for n in grid.shape)
    cases = _cases(grid > level)
    active = ((cases != 0) & (cases != 255)).reshape(-1).nonzero()[:, 0]
    kind = cases.reshape(-1)[active].long()
    del cases
    corner = _corner_points(active, shape)
    offsets = torch.tensor([_offset(c, shape) for c in range(8)], device=grid.device)
    values = grid.reshape(-1)
    lookup, ambiguous, triangles, counts = (torch.from_numpy(a).to(grid.device) for a in _table())
    joined = torch.zeros_like(kind)
    unsure = ambiguous[kind].any(dim=1).nonzero()[:, 0]
    if len(unsure):
        near = values[corner[unsure, None] + offsets] - level  # (n, 8)
        joined[unsure] = _joined_faces(near, ambiguous[kind[unsure]])
    row = lookup[kind, joined]
    cell = torch.repeat_interleave(torch.arange(len(row), device=grid.device), counts[row])
    place = torch.arange(len(cell), device=grid.device) - (counts[row].cumsum(0) - counts[row])[cell]
    edges = triangles[row[cell], place]  # (T, 3)
    ends = torch.tensor(_EDGES, device=grid.device)
    axis = torch.tensor([axis for axis in range(3) for _ in range(4)], device=grid.device)
    keys = (corner[cell, None] + offsets[ends[edges, 0]]) * 3 + axis[edges]
    keys, faces = torch.unique(keys, return_inverse=True)
    return _known_part(_vertices(values, keys, shape, level), faces)


def _cases(inside: Tensor) -> Tensor:
    """(x - 1, y - 1, z - 1) uint8: bit c is set where corner c of the cell is inside."""
    result = torch.zeros([n - 1 for n in inside.shape], dtype=torch.uint8, device=inside.device)
    for c in range(8):
        part = inside
        for dimension in range(3):
            part = part.narrow(dimension, c >> dimension & 1, inside.shape[dimension] - 1)
        result |= part.to(torch.uint8) << c
    return result


def _offset(corner: int, shape: tuple[int, ...]) -> int:
    """How far a corner of a cell lies from its first corner in the flat grid."""
    return ((corner & 1) * shape[1] + (corner >> 1 & 1)) * shape[2] + (corner >> 2 & 1)


def _corner_points(cells: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Flat grid index of the first corner of each cell, which is given by its flat index among the cells."""
    z = cells % (shape[2] - 1)
    rest = cells // (shape[2] - 1)
    return (rest // (shape[1] - 1) * shape[1] + rest % (shape[1] - 1)) * shape[2] + z


def _joined_faces(values: Tensor, ambiguous: Tensor) -> Tensor:
    """(n,) int64, bit f set where the inside corners of the ambiguous face f are connected.

    values: (n, 8) above the level where inside; ambiguous: (n, 6) bool
    """
    result = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    for face, corners in enumerate(_FACES):
        a, b, c, d = (values[:, corner] for corner in corners)
        one, other = a * c, b * d
        connected = torch.where(a > 0, one > other, other > one)
        result |= (connected & ambiguous[:, face]).long() << face
    return result


def _vertices(values: Tensor, keys: Tensor, shape: tuple[int, ...], level: float) -> Tensor:
    """(V, 3) float32 where the level crosses the edges with these keys (3 point + axis); NaN at unknown points."""
    first, axis = keys // 3, keys % 3
    steps = torch.tensor([shape[1] * shape[2], shape[2], 1], device=values.device)
    start, end = values[first], values[first + steps[axis]]
    share = (level - start) / (end - start)
    share = torch.where(start.isfinite() & end.isfinite(), share, torch.nan)
    points = torch.stack([first // steps[0], first // steps[1] % shape[1], first % shape[2]], dim=1).to(torch.float32)
    points[torch.arange(len(points), device=values.device), axis] += share
    return points


def _known_part(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """The faces whose corners are all finite, with the vertices that they use, in the same order."""
    known = vertices.isfinite().all(dim=1)
    faces = faces[known[faces].all(dim=1)]
    used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    used[faces.reshape(-1)] = True
    return vertices[used], (used.cumsum(0) - 1)[faces]


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All cases with all decisions about their ambiguous faces.

    Returns lookup (256, 64) int64, row of a case and the bits of its joined faces; ambiguous (256, 6) bool;
    triangles (rows, T, 3) int64, edges 0 to 11 of the cell; counts (rows,) int64 of triangles.
    """
    lookup = np.zeros((256, 64), np.int64)
    ambiguous = np.zeros((256, 6), bool)
    rows: list[list[tuple[int, int, int]]] = []
    for case in range(256):
        inside = [bool(case >> c & 1) for c in range(8)]
        for face, corners in enumerate(_FACES):
            a, b, c, d = (inside[corner] for corner in corners)
            ambiguous[case, face] = a == c and b == d and a != b
        undecided = sum(1 << face for face in range(6) if ambiguous[case, face])
        for joined in range(64):
            if joined & ~undecided == 0:
                lookup[case, joined] = len(rows)
                rows.append([t for loop in _loops(inside, joined) for t in _triangulated(loop)])
    triangles = np.zeros((len(rows), max(len(row) for row in rows), 3), np.int64)
    for number, row in enumerate(rows):
        triangles[number, : len(row)] = np.array(row, np.int64).reshape(-1, 3)
    return lookup, ambiguous, triangles, np.array([len(row) for row in rows], np.int64)


def _loops(inside: list[bool], joined: int) -> list[list[int]]:
    """The closed lines around the inside of a cell as lists of its edges."""
    following: dict[int, int] = {}
    for face, corners in enumerate(_FACES):
        sides = [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
        leaving = [i for i, (a, b) in enumerate(sides) if inside[a] and not inside[b]]
        entering = [i for i, (a, b) in enumerate(sides) if not inside[a] and inside[b]]
        for i in leaving:
            # back to where the same inside corners were entered, or, where they are joined, on to the others
            way = 1 if joined >> face & 1 else -1
            end = next(j for j in ((i + way * step) % 4 for step in range(1, 4)) if j in entering)
            following[_EDGE_OF[frozenset(sides[i])]] = _EDGE_OF[frozenset(sides[end])]
    loops = []
    while following:
        loop = [min(following)]
        while (edge := following.pop(loop[-1])) != loop[0]:
            loop.append(edge)
        loops.append(loop)
    return loops


def _triangulated(loop: list[int]) -> list[tuple[int, int, int]]:
    """Cut a loop into triangles with as few new lines as possible that run in a face of the cell.

    Such a line could be drawn by the neighbour as well, and then have four triangles.
    """

    @cache
    def best(i: int, j: int) -> tuple[int, tuple[tuple[int, int, int], ...]]:
        if j - i < 2:
            return 0, ()
        options = []
        for k in range(i + 1, j):
            left, right = best(i, k), best(k, j)
            cost = left[0] + right[0] + sum(_in_one_face(loop[a], loop[b]) for a, b in ((i, k), (k, j)) if b - a > 1)
            options.append((cost, ((loop[i], loop[k], loop[j]), *left[1], *right[1])))
        return min(options)

    return list(best(0, len(loop) - 1)[1])


def _in_one_face(edge: int, other: int) -> bool:
    """Whether two edges of the cell bound a common face."""
    corners = {*_EDGES[edge], *_EDGES[other]}
    return any(corners <= set(face) for face in _FACES)
