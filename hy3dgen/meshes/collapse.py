"""Quadric edge collapse that keeps a surface manifold and its open borders in place, compiled by numba.

Each collapse passes the link condition, turns no face over and stays on the border, so whatever was manifold stays so
by construction. One heap over all edges: exact order, some µs a face; ``decimate.py`` makes big meshes smaller first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hy3dgen.meshes.jit import compiled

# Planes that stand on the border, relative to the area of the faces there: high enough that a border only gets
# straighter where it is straight.
_BORDER_WEIGHT = 100.0
# Pulls a collapse without preferred place (flat surroundings) to the middle of its edge.
_CALM = 1e-9
# Adds this share of an edge's squared length to the squared distance that its collapse costs. In a plane everything
# costs nothing: without an order, one vertex would swallow its neighbours one after the other, in quadratic time.
_SHORT_FIRST = 1e-8


def collapse_edges(points: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse the cheapest edge until ``target`` faces are left or none can go.

    points: (V, 3) float64, about one unit wide; faces: (F, 3) int32 without repeated corners
    Returns (points, faces) with unused vertices removed; not the same arrays.
    """
    points = np.array(points, np.float64)
    faces = np.array(faces, np.int32)
    alive = np.ones(len(faces), np.bool_)
    _run(points, faces, alive, int(target))
    faces = faces[alive]
    used = np.zeros(len(points), bool)
    used[faces.reshape(-1)] = True
    return points[used], (np.cumsum(used) - 1)[faces].astype(np.int32).reshape(-1, 3)


@compiled
def _add_plane(q: Any, n0: float, n1: float, n2: float, d: float, weight: float) -> None:
    """Add weight · (n·x + d)² to a quadric: xx xy xz yy yz zz, x y z, 1."""
    q[0] += weight * n0 * n0
    q[1] += weight * n0 * n1
    q[2] += weight * n0 * n2
    q[3] += weight * n1 * n1
    q[4] += weight * n1 * n2
    q[5] += weight * n2 * n2
    q[6] += weight * n0 * d
    q[7] += weight * n1 * d
    q[8] += weight * n2 * d
    q[9] += weight * d * d


@compiled
def _value(q: Any, x: float, y: float, z: float) -> float:
    return (
        q[0] * x * x + q[3] * y * y + q[5] * z * z
        + 2 * (q[1] * x * y + q[2] * x * z + q[4] * y * z)
        + 2 * (q[6] * x + q[7] * y + q[8] * z) + q[9]
    )  # fmt: skip


@compiled
def _cross(points: Any, a: int, b: int, c: int) -> Any:
    """(b - a) × (c - a) of three points as scalars; whole-array arithmetic would triple the time to compile."""
    ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
    vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@compiled
def _quadrics(points: Any, faces: Any, head: Any, follow: Any, border: Any, quadrics: Any) -> None:
    """Sum the planes of the faces, by area, and the walls on the border; mark border vertices."""
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x, y, z = _cross(points, a, b, c)
        length = np.sqrt(x * x + y * y + z * z)
        if length <= 0:
            continue
        x, y, z = x / length, y / length, z / length
        d = -(x * points[a, 0] + y * points[a, 1] + z * points[a, 2])
        for k in range(3):
            _add_plane(quadrics[faces[f, k]], x, y, z, d, length / 2)
        for k in range(3):
            a, b = faces[f, k], faces[f, (k + 1) % 3]
            if _faces_on_edge(faces, head, follow, a, b) != 1:
                continue
            border[a] = True
            border[b] = True
            sx, sy, sz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
            square = sx * sx + sy * sy + sz * sz
            if square <= 0:
                continue
            side = np.sqrt(square)
            wx, wy, wz = (sy * z - sz * y) / side, (sz * x - sx * z) / side, (sx * y - sy * x) / side
            d = -(wx * points[a, 0] + wy * points[a, 1] + wz * points[a, 2])
            _add_plane(quadrics[a], wx, wy, wz, d, _BORDER_WEIGHT * square)
            _add_plane(quadrics[b], wx, wy, wz, d, _BORDER_WEIGHT * square)


@compiled
def _faces_on_edge(faces: Any, head: Any, follow: Any, a: int, b: int) -> int:
    """Live faces around ``a`` that also have ``b``; the lists hold only live corners for vertices just tidied."""
    count = 0
    corner = head[a]
    while corner >= 0:
        f = corner // 3
        if faces[f, 0] == b or faces[f, 1] == b or faces[f, 2] == b:
            count += 1
        corner = follow[corner]
    return count


@compiled
def _tidy(alive: Any, head: Any, follow: Any, vertex: int) -> int:
    """Take corners of dead faces out of the vertex's list; returns its length."""
    last = -1
    count = 0
    corner = head[vertex]
    while corner >= 0:
        after = follow[corner]
        if alive[corner // 3]:
            if last < 0:
                head[vertex] = corner
            else:
                follow[last] = corner
            last = corner
            count += 1
        corner = after
    if last < 0:
        head[vertex] = -1
    else:
        follow[last] = -1
    return count


@compiled
def _place(points: Any, quadrics: Any, border: Any, a: int, b: int, q: Any, spot: Any) -> float:
    """Where the edge's vertices should meet (into ``spot``) and what that costs. q: (10,) float64 to work in."""
    for i in range(10):
        q[i] = quadrics[a, i] + quadrics[b, i]
    edge = _square(points, a, points[b, 0], points[b, 1], points[b, 2])
    return _best_spot(points, border, a, b, q, edge, spot) + _SHORT_FIRST * (q[0] + q[3] + q[5]) * edge


@compiled
def _best_spot(points: Any, border: Any, a: int, b: int, q: Any, edge: float, spot: Any) -> float:
    """``_place`` without the order by length. q: the sum of both quadrics; edge: squared length."""
    if border[a] != border[b]:
        fixed = a if border[a] else b
        spot[0], spot[1], spot[2] = points[fixed, 0], points[fixed, 1], points[fixed, 2]
        return _value(q, spot[0], spot[1], spot[2])
    mx = (points[a, 0] + points[b, 0]) / 2
    my = (points[a, 1] + points[b, 1]) / 2
    mz = (points[a, 2] + points[b, 2]) / 2
    calm = _CALM * (q[0] + q[3] + q[5])
    xx, yy, zz = q[0] + calm, q[3] + calm, q[5] + calm
    xy, xz, yz = q[1], q[2], q[4]
    rx, ry, rz = calm * mx - q[6], calm * my - q[7], calm * mz - q[8]
    c00, c01, c02 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    det = xx * c00 + xy * c01 + xz * c02
    trace = xx + yy + zz
    if det > 1e-18 * trace * trace * trace:
        c11, c12, c22 = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
        x = (c00 * rx + c01 * ry + c02 * rz) / det
        y = (c01 * rx + c11 * ry + c12 * rz) / det
        z = (c02 * rx + c12 * ry + c22 * rz) / det
        # a point far from its edge comes from a badly conditioned system
        if (x - mx) * (x - mx) + (y - my) * (y - my) + (z - mz) * (z - mz) <= 4 * edge:
            spot[0], spot[1], spot[2] = x, y, z
            return _value(q, x, y, z)
    spot[0], spot[1], spot[2] = mx, my, mz
    best = _value(q, mx, my, mz)
    for end in (a, b):
        cost = _value(q, points[end, 0], points[end, 1], points[end, 2])
        if cost < best:
            best = cost
            spot[0], spot[1], spot[2] = points[end, 0], points[end, 1], points[end, 2]
    return best


@compiled
def _square(points: Any, a: int, x: float, y: float, z: float) -> float:
    """Squared distance of a vertex to a place."""
    dx, dy, dz = points[a, 0] - x, points[a, 1] - y, points[a, 2] - z
    return dx * dx + dy * dy + dz * dz


@compiled
def _turns_over(points: Any, faces: Any, head: Any, follow: Any, a: int, b: int, spot: Any) -> bool:
    """Whether a face around ``a`` (without ``b``) turns by more than ~75° or loses its area when ``a`` moves."""
    corner = head[a]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        corner = follow[corner]
        o, p = faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
        if b in (o, p):
            continue
        bx, by, bz = _cross(points, o, p, a)
        ux, uy, uz = points[p, 0] - points[o, 0], points[p, 1] - points[o, 1], points[p, 2] - points[o, 2]
        vx, vy, vz = spot[0] - points[o, 0], spot[1] - points[o, 1], spot[2] - points[o, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        before = np.sqrt(bx * bx + by * by + bz * bz)
        after = np.sqrt(nx * nx + ny * ny + nz * nz)
        longest = max(
            ux * ux + uy * uy + uz * uz,
            vx * vx + vy * vy + vz * vz,
            _square(points, p, spot[0], spot[1], spot[2]),
        )
        # a stricter rule against needles makes more of them: those of the input then block their surroundings
        if after <= 1e-5 * longest or bx * nx + by * ny + bz * nz < 0.25 * before * after:
            return True
    return False


@compiled
def _may_join(
    faces: Any, alive: Any, head: Any, follow: Any, border: Any, mark: Any, tick: int, a: int, b: int
) -> bool:
    """The link condition: only the corners of their common faces are neighbours of both, and none degenerates."""
    _tidy(alive, head, follow, a)
    _tidy(alive, head, follow, b)
    on_edge = _faces_on_edge(faces, head, follow, a, b)
    if on_edge == 0 or on_edge > 2 or (border[a] and border[b] and on_edge != 1):
        return False
    corner = head[a]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        mark[faces[f, (k + 1) % 3]] = tick
        mark[faces[f, (k + 2) % 3]] = tick
        corner = follow[corner]
    common = 0
    corner = head[b]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        for j in range(1, 3):
            n = faces[f, (k + j) % 3]
            if n != a and mark[n] == tick:
                mark[n] = tick + 1
                common += 1
                if _tidy(alive, head, follow, n) <= (1 if border[n] else 3):
                    return False
        corner = follow[corner]
    return common == on_edge


@compiled
def _join(faces: Any, alive: Any, head: Any, follow: Any, a: int, b: int) -> int:
    """Replace b by a; the faces on the edge die. Returns their number."""
    died = 0
    last = -1
    corner = head[b]
    while corner >= 0:
        f, k = corner // 3, corner % 3
        if faces[f, 0] == a or faces[f, 1] == a or faces[f, 2] == a:
            alive[f] = False
            died += 1
        else:
            faces[f, k] = a
        last = corner
        corner = follow[corner]
    follow[last] = head[a]
    head[a] = head[b]
    head[b] = -1
    _tidy(alive, head, follow, a)
    return died


@compiled
def _sift_up(cost: Any, item: Any, place: int) -> None:
    while place > 0:
        parent = (place - 1) // 2
        if cost[parent] <= cost[place]:
            break
        cost[parent], cost[place] = cost[place], cost[parent]
        for column in range(4):
            item[parent, column], item[place, column] = item[place, column], item[parent, column]
        place = parent


@compiled
def _sift_down(cost: Any, item: Any, place: int, size: int) -> None:
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and cost[child + 1] < cost[child]:
            child += 1
        if cost[place] <= cost[child]:
            break
        cost[child], cost[place] = cost[place], cost[child]
        for column in range(4):
            item[child, column], item[place, column] = item[place, column], item[child, column]
        place = child


@compiled
def _grow(cost: Any, item: Any) -> Any:
    size = len(cost)
    more_cost, more_item = np.empty(size + size // 2 + 16), np.empty((size + size // 2 + 16, 4), np.int32)
    for row in range(size):
        more_cost[row] = cost[row]
        for column in range(4):
            more_item[row, column] = item[row, column]
    return more_cost, more_item


@compiled
def _run(points: Any, faces: Any, alive: Any, target: int) -> None:
    num_vertices, num_faces = len(points), len(faces)
    head = np.full(num_vertices, -1, np.int64)
    follow = np.full(3 * num_faces, -1, np.int64)
    for corner in range(3 * num_faces):
        vertex = faces[corner // 3, corner % 3]
        follow[corner] = head[vertex]
        head[vertex] = corner
    quadrics = np.zeros((num_vertices, 10))
    border = np.zeros(num_vertices, np.bool_)
    _quadrics(points, faces, head, follow, border, quadrics)
    stamp = np.zeros(num_vertices, np.int32)
    mark = np.zeros(num_vertices, np.int64)
    tick = 1
    left = num_faces
    spot = np.zeros(3)
    q = np.zeros(10)
    for _ in range(4):  # a refused edge may be free after its surroundings have changed
        before = left
        cost = np.empty(3 * left + 16)
        item = np.empty((len(cost), 4), np.int32)
        size = 0
        for f in range(num_faces):
            if not alive[f]:
                continue
            for k in range(3):
                a, b = faces[f, k], faces[f, (k + 1) % 3]
                if a > b and not (border[a] and border[b]):
                    continue  # the neighbour has this edge the other way round
                cost[size] = _place(points, quadrics, border, a, b, q, spot)
                item[size, 0], item[size, 1], item[size, 2], item[size, 3] = a, b, stamp[a], stamp[b]
                size += 1
        for place in range(size // 2 - 1, -1, -1):
            _sift_down(cost, item, place, size)
        while size > 0 and left > target:
            a, b = item[0, 0], item[0, 1]
            fresh = stamp[a] == item[0, 2] and stamp[b] == item[0, 3]
            size -= 1
            cost[0] = cost[size]
            for column in range(4):
                item[0, column] = item[size, column]
            _sift_down(cost, item, 0, size)
            if not fresh or head[a] < 0 or head[b] < 0:
                continue
            tick += 2
            if not _may_join(faces, alive, head, follow, border, mark, tick, a, b):
                continue
            _place(points, quadrics, border, a, b, q, spot)
            if _turns_over(points, faces, head, follow, a, b, spot):
                continue
            if _turns_over(points, faces, head, follow, b, a, spot):
                continue
            left -= _join(faces, alive, head, follow, a, b)
            for i in range(3):
                points[a, i] = spot[i]
            for i in range(10):
                quadrics[a, i] += quadrics[b, i]
            border[a] = border[a] or border[b]
            stamp[a] += 1
            stamp[b] += 1
            tick += 2
            corner = head[a]
            while corner >= 0:
                f, k = corner // 3, corner % 3
                for j in range(1, 3):
                    n = faces[f, (k + j) % 3]
                    if mark[n] == tick:
                        continue
                    mark[n] = tick
                    if size == len(cost):
                        cost, item = _grow(cost, item)
                    cost[size] = _place(points, quadrics, border, a, n, q, spot)
                    item[size, 0], item[size, 1], item[size, 2], item[size, 3] = a, n, stamp[a], stamp[n]
                    size += 1
                    _sift_up(cost, item, size - 1)
                corner = follow[corner]
        if left <= target or left == before:
            break
