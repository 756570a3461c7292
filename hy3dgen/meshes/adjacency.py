"""Compiled loops over face lists: sides sorted by edge, faces joined to parts, positions grouped, areas and volumes.

Time and memory grow with the number of faces and vertices, whatever their order; nothing is checked here, so indices
must exist. ``topology.py`` is the door.
"""

from __future__ import annotations

import math

import numpy as np

from hy3dgen.meshes.jit import compiled


@compiled
def sides_by_edge(faces, num_vertices):
    """Order of the sides, (3F,) int32, by smaller, then larger vertex, then side: two counting sorts."""
    sides = 3 * len(faces)
    starts = np.zeros(num_vertices + 1, np.int64)
    for f in range(len(faces)):
        for k in range(3):
            starts[max(faces[f, k], faces[f, (k + 1) % 3]) + 1] += 1
    for vertex in range(num_vertices):
        starts[vertex + 1] += starts[vertex]
    by_larger = np.empty(sides, np.int32)
    for f in range(len(faces)):
        for k in range(3):
            larger = max(faces[f, k], faces[f, (k + 1) % 3])
            by_larger[starts[larger]] = 3 * f + k
            starts[larger] += 1
    starts[:] = 0
    for f in range(len(faces)):
        for k in range(3):
            starts[min(faces[f, k], faces[f, (k + 1) % 3]) + 1] += 1
    for vertex in range(num_vertices):
        starts[vertex + 1] += starts[vertex]
    order = np.empty(sides, np.int32)
    for place in range(sides):
        side = by_larger[place]
        smaller = min(faces[side // 3, side % 3], faces[side // 3, (side % 3 + 1) % 3])
        order[starts[smaller]] = side
        starts[smaller] += 1
    return order


@compiled
def _ends(faces, side):
    start, end = faces[side // 3, side % 3], faces[side // 3, (side % 3 + 1) % 3]
    return min(start, end), max(start, end)


@compiled
def number_edges(faces, order, side_to_edge, forward):
    """Fill the edge of each side and whether it runs from the smaller vertex to the larger; returns the edges."""
    count = -1
    low, high = -1, -1
    for place in range(len(order)):
        side = order[place]
        a, b = _ends(faces, side)
        if a != low or b != high:
            count += 1
            low, high = a, b
        side_to_edge[side] = count
        forward[side] = faces[side // 3, side % 3] < faces[side // 3, (side % 3 + 1) % 3]
    return count + 1


@compiled
def list_edges(faces, order, edges, counts):
    """Fill the ends and the number of sides of each edge; ``counts`` comes in as zeros."""
    edge = -1
    low, high = -1, -1
    for place in range(len(order)):
        a, b = _ends(faces, order[place])
        if a != low or b != high:
            edge += 1
            low, high = a, b
            edges[edge, 0], edges[edge, 1] = a, b
        counts[edge] += 1


@compiled
def _root(parent, item):
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


@compiled
def _join(parent, one, other):
    """Both in one tree, whose root is the smallest item."""
    a, b = _root(parent, one), _root(parent, other)
    if a < b:
        parent[b] = a
    else:
        parent[a] = b


@compiled
def parts_over_edges(faces, order):
    """Part of each face, (F,) int32, joined over shared edges and numbered by first face."""
    parent = np.arange(len(faces)).astype(np.int32)
    for place in range(1, len(order)):
        a, b = _ends(faces, order[place - 1])
        c, d = _ends(faces, order[place])
        if a == c and b == d:
            _join(parent, order[place - 1] // 3, order[place] // 3)
    count = 0
    for face in range(len(faces)):  # roots come before their members, so a root's number is there when it is needed
        if parent[face] == face:
            parent[face] = -1 - count
            count += 1
        else:
            up = parent[face]
            parent[face] = parent[up]
    for face in range(len(faces)):
        parent[face] = -1 - parent[face]
    return parent


@compiled
def parts_over_vertices(faces, num_vertices):
    """Part of each face, (F,) int32, joined over shared vertices and numbered by lowest vertex."""
    parent = np.arange(num_vertices).astype(np.int32)
    used = np.zeros(num_vertices, np.bool_)
    for f in range(len(faces)):
        _join(parent, faces[f, 0], faces[f, 1])
        _join(parent, faces[f, 1], faces[f, 2])
        for k in range(3):
            used[faces[f, k]] = True
    number = np.zeros(num_vertices, np.int32)
    count = 0
    for vertex in range(num_vertices):
        if parent[vertex] == vertex and used[vertex]:
            number[vertex] = count
            count += 1
    part = np.empty(len(faces), np.int32)
    for f in range(len(faces)):
        part[f] = number[_root(parent, faces[f, 0])]
    return part


@compiled
def group_rows(rows, bits, first, group):
    """Number equal rows by first occurrence; returns how many there are. NaN equals nothing.

    rows: (N, D) float without -0; bits: the same memory as unsigned integers; first, group: (N,) int64 to fill
    """
    size = 16
    while size < 2 * len(rows):
        size *= 2
    slots = np.full(size, -1, np.int32)
    mask = np.uint64(size - 1)
    count = 0
    for row in range(len(rows)):
        key = np.uint64(0)
        for column in range(rows.shape[1]):
            key = (key ^ np.uint64(bits[row, column])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        slot = key & mask
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = count
                first[count] = row
                group[row] = count
                count += 1
                break
            equal = True
            for column in range(rows.shape[1]):
                if rows[first[found], column] != rows[row, column]:
                    equal = False
                    break
            if equal:
                group[row] = found
                break
            slot = (slot + np.uint64(1)) & mask
    return count


@compiled
def _cross(points, a, b, c):
    ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
    vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@compiled
def crosses(points, faces, out):
    """Fill (v1 - v0) × (v2 - v0) per face. points: (V, 3) float64"""
    for f in range(len(faces)):
        out[f, 0], out[f, 1], out[f, 2] = _cross(points, faces[f, 0], faces[f, 1], faces[f, 2])


@compiled
def without_area(points, faces, threshold):
    """(F,) bool: faces whose area is at most ``threshold`` times the square of their longest side."""
    flat = np.empty(len(faces), np.bool_)
    for f in range(len(faces)):
        x, y, z = _cross(points, faces[f, 0], faces[f, 1], faces[f, 2])
        longest = 0.0
        for k in range(3):
            a, b = faces[f, k], faces[f, (k + 1) % 3]
            dx, dy, dz = points[a, 0] - points[b, 0], points[a, 1] - points[b, 1], points[a, 2] - points[b, 2]
            longest = max(longest, dx * dx + dy * dy + dz * dz)
        flat[f] = math.sqrt(x * x + y * y + z * z) / 2 <= threshold * longest
    return flat


@compiled
def volumes(points, faces, centre, out):
    """Fill the signed volume between ``centre``, (3,), and each face."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0] - centre[0], points[a, 1] - centre[1], points[a, 2] - centre[2]
        bx, by, bz = points[b, 0] - centre[0], points[b, 1] - centre[1], points[b, 2] - centre[2]
        cx, cy, cz = points[c, 0] - centre[0], points[c, 1] - centre[1], points[c, 2] - centre[2]
        out[f] = (ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)) / 6


@compiled
def part_measures(points, faces, part, turned, count):
    """Area, (P,), and signed volume, (P,), of each part, measured from the part's own middle.

    turned: (F,) bool, faces that count as running the other way
    """
    middle = np.zeros((count, 3))
    sizes = np.zeros(count)
    for f in range(len(faces)):
        sizes[part[f]] += 1
        for axis in range(3):
            total = points[faces[f, 0], axis] + points[faces[f, 1], axis] + points[faces[f, 2], axis]
            middle[part[f], axis] += total / 3
    areas, inside = np.zeros(count), np.zeros(count)
    for f in range(len(faces)):
        p = part[f]
        x, y, z = _cross(points, faces[f, 0], faces[f, 1], faces[f, 2])
        areas[p] += math.sqrt(x * x + y * y + z * z) / 2
        a = faces[f, 0]
        dx = points[a, 0] - middle[p, 0] / sizes[p]
        dy = points[a, 1] - middle[p, 1] / sizes[p]
        dz = points[a, 2] - middle[p, 2] / sizes[p]
        volume = (dx * x + dy * y + dz * z) / 6
        inside[p] += -volume if turned[f] else volume
    return areas, inside
