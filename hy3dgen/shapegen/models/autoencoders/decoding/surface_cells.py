"""Loops over the cells of a grid that lie near a surface, compiled: what the lean walk asks again and again.

Cells and points are flat int64 indices of grids with ``resolution`` cells and g = resolution + 1 points per axis; all
lists are ascending and without repeats. Arithmetic is float32 in a fixed order, so that a grid is the same bit for bit
whoever computes it. Knows neither fields nor levels.
"""

from __future__ import annotations

import numpy as np

from hy3dgen.meshes.jit import compiled

_WORD = 64  # bits of a set's word: a mask of bytes would be 57 MB at 384 cells per axis
HALF = np.float32(0.5)
ONE = np.float32(1)
TWO = np.float32(2)
FOUR = np.float32(4)


@compiled
def _empty_set(size):
    """A set of numbers below ``size``, one bit each."""
    return np.zeros((size + _WORD - 1) // _WORD, dtype=np.uint64)


@compiled
def _add(words, number):
    words[number // _WORD] |= np.uint64(1) << np.uint64(number % _WORD)


@compiled
def _members(words):
    """The numbers in a set, ascending."""
    count = 0
    for word in words:
        while word != np.uint64(0):
            word &= word - np.uint64(1)
            count += 1
    found = np.empty(count, dtype=np.int64)
    at = 0
    for place in range(len(words)):
        word = words[place]
        number = place * _WORD
        while word != np.uint64(0):
            if word & np.uint64(1):
                found[at] = number
                at += 1
            word >>= np.uint64(1)
            number += 1
    return found


@compiled
def _axes(number, size):
    """(i, j, k) of a flat index in a grid of size³."""
    return number // (size * size), number // size % size, number % size


@compiled
def _base_point(cell, resolution):
    """Flat point index of a cell's lowest corner."""
    i, j, k = _axes(cell, resolution)
    return (i * (resolution + 1) + j) * (resolution + 1) + k


@compiled
def corner_points(cells, resolution):
    """The points that are corners of any of the cells."""
    g = resolution + 1
    words = _empty_set(g * g * g)
    for cell in cells:
        base = _base_point(cell, resolution)
        for x in range(2):
            for y in range(2):
                for z in range(2):
                    _add(words, base + (x * g + y) * g + z)
    return _members(words)


@compiled
def cells_around(points, resolution):
    """The cells that have any of the points as corner."""
    g = resolution + 1
    words = _empty_set(resolution * resolution * resolution)
    for point in points:
        i, j, k = _axes(point, g)
        for x in range(max(i - 1, 0), min(i + 1, resolution)):
            for y in range(max(j - 1, 0), min(j + 1, resolution)):
                for z in range(max(k - 1, 0), min(k + 1, resolution)):
                    _add(words, (x * resolution + y) * resolution + z)
    return _members(words)


@compiled
def children(cells, coarse, finer):
    """The cells of the finer grid that overlap any of the coarse ones."""
    words = _empty_set(finer * finer * finer)
    for cell in cells:
        i, j, k = _axes(cell, coarse)
        for x in range(i * finer // coarse, -((-(i + 1) * finer) // coarse)):
            for y in range(j * finer // coarse, -((-(j + 1) * finer) // coarse)):
                for z in range(k * finer // coarse, -((-(k + 1) * finer) // coarse)):
                    _add(words, (x * finer + y) * finer + z)
    return _members(words)


@compiled
def union(cells, others, size):
    """The numbers below ``size`` that are in either list."""
    words = _empty_set(size)
    for number in cells:
        _add(words, number)
    for number in others:
        _add(words, number)
    return _members(words)


@compiled
def _doubt(grid, i, j, k):
    """How far an interpolated value next to a point may be off: half the sum of second differences.

    A half, not the eighth of smooth fields: distances have kinks, and a kink between samples is off by that much.
    """
    last = grid.shape[0] - 1
    total = np.float32(0)
    if 0 < i < last:
        total += abs(grid[i + 1, j, k] - TWO * grid[i, j, k] + grid[i - 1, j, k])
    if 0 < j < last:
        total += abs(grid[i, j + 1, k] - TWO * grid[i, j, k] + grid[i, j - 1, k])
    if 0 < k < last:
        total += abs(grid[i, j, k + 1] - TWO * grid[i, j, k] + grid[i, j, k - 1])
    return total * HALF


@compiled
def possible_cells(grid, cells, reach):
    """(those of ``cells`` that the surface may touch, how far an interpolated value in each may be off).

    grid: (g, g, g) float32; reach: float32, above 0: also cells with a corner value this close to the level
    Cells with a NaN at a corner are left out.
    """
    resolution = grid.shape[0] - 1
    found = np.empty(len(cells), dtype=np.int64)
    doubts = np.empty(len(cells), dtype=np.float32)
    count = 0
    for cell in cells:
        i, j, k = _axes(cell, resolution)
        low, high, nearest, doubt = grid[i, j, k], grid[i, j, k], abs(grid[i, j, k]), np.float32(0)
        is_number = True
        for x in range(i, i + 2):
            for y in range(j, j + 2):
                for z in range(k, k + 2):
                    value, own = grid[x, y, z], _doubt(grid, x, y, z)
                    is_number = is_number and not np.isnan(value)
                    low, high, nearest = min(low, value), max(high, value), min(nearest, abs(value))
                    if own > doubt or np.isnan(own):  # a NaN, once met, stays: nothing is above it
                        doubt = own
        if is_number and ((low - doubt <= 0 and high + doubt >= 0) or (reach > 0 and nearest <= reach)):
            found[count], doubts[count] = cell, doubt
            count += 1
    return found[:count].copy(), doubts[:count].copy()


@compiled
def signs_by_interpolation(grid, cell_doubt, points, finer):
    """((finer + 1)³,) uint8: at the points 1 for possibly not above 0, 2 for possibly not below, 3 for both; else 0.

    grid: (g, g, g) float32; cell_doubt: (r³,) float32, how far an interpolated value in a cell may be off at most
    """
    coarse = grid.shape[0] - 1
    size = finer + 1
    signs = np.zeros(size * size * size, dtype=np.uint8)
    for point in points:
        x, y, z = _axes(point, size)
        x, y, z = x * coarse, y * coarse, z * coarse
        i, j, k = min(x // finer, coarse - 1), min(y // finer, coarse - 1), min(z // finer, coarse - 1)
        u = np.float32((x - i * finer) / finer)
        v = np.float32((y - j * finer) / finer)
        w = np.float32((z - k * finer) / finer)
        value = np.float32(0)
        for a in range(2):
            for b in range(2):
                for c in range(2):
                    share = (u if a else ONE - u) * (v if b else ONE - v) * (w if c else ONE - w)
                    value += share * grid[i + a, j + b, k + c]
        bend = max(FOUR * u * (ONE - u), FOUR * v * (ONE - v), FOUR * w * (ONE - w))  # 0 at points of the coarse grid
        doubt = cell_doubt[(i * coarse + j) * coarse + k] * bend
        signs[point] = (1 if value - doubt <= 0 else 0) + (2 if value + doubt >= 0 else 0)
    return signs


@compiled
def uncertain_cells(signs, cells, resolution):
    """Those of the cells whose corners are not all certain to have one sign; signs: see signs_by_interpolation."""
    g = resolution + 1
    found = np.empty(len(cells), dtype=np.int64)
    count = 0
    for cell in cells:
        base = _base_point(cell, resolution)
        seen = 0
        for x in range(2):
            for y in range(2):
                for z in range(2):
                    seen |= signs[base + (x * g + y) * g + z]
        if seen == 3:
            found[count] = cell
            count += 1
    return found[:count].copy()


@compiled
def open_cells(values, known, cells, resolution):
    """Those of the cells with a sign change among their known corners and a corner that is not known.

    values: (g³,) float32; known: (g³,) bool
    """
    g = resolution + 1
    found = np.empty(len(cells), dtype=np.int64)
    count = 0
    for cell in cells:
        base = _base_point(cell, resolution)
        inside = outside = missing = False
        for x in range(2):
            for y in range(2):
                for z in range(2):
                    at = base + (x * g + y) * g + z
                    if not known[at]:
                        missing = True
                    elif values[at] > 0:
                        inside = True
                    else:
                        outside = True
        if inside and outside and missing:
            found[count] = cell
            count += 1
    return found[:count].copy()


@compiled
def answered(values, known, points, finer):
    """(n,) int64: where a point of the finer grid lies in a coarse one, as flat index, when it is known there; else -1.

    values: (g, g, g), of the coarse grid; known: (g, g, g) bool
    """
    coarse = values.shape[0] - 1
    size = finer + 1
    places = np.full(len(points), -1, dtype=np.int64)
    for n in range(len(points)):
        point = points[n]
        i, j, k = _axes(point, size)
        i, j, k = i * coarse, j * coarse, k * coarse
        if k % finer == 0 and j % finer == 0 and i % finer == 0:
            i, j, k = i // finer, j // finer, k // finer
            if known[i, j, k]:
                places[n] = (i * (coarse + 1) + j) * (coarse + 1) + k
    return places
