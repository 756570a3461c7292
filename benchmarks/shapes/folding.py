"""A list of primitives folded into one signed field, with gradient, normalisation pose and surface points.

``pose`` is (13,): object frame = rotation (9, row by row) @ (point * scale + offset (3)), scale last.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from benchmarks.shapes.primitives import (
    BLEND,
    BOUND,
    CENTRE,
    MATERIAL,
    MIRROR,
    OPERATION,
    REPEAT,
    ROTATION,
    distance,
)

UNION, SMOOTH_UNION, SUBTRACTION = range(3)
POSE_FLOATS = 13
GRADIENT_STEP = 1.5e-3
FAR_OUTSIDE = 1e3

_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_FAST)
def fold(rows: np.ndarray, pose: np.ndarray, wx: float, wy: float, wz: float) -> tuple[float, int]:
    """Signed distance (negative inside) and material index at one point of the normalised frame.

    rows: (N, ROW_FLOATS) primitives in folding order; pose: (13,)
    A primitive whose bounding sphere cannot change the result is skipped.
    """
    scale = pose[12]
    qx, qy, qz = wx * scale + pose[9], wy * scale + pose[10], wz * scale + pose[11]
    x = pose[0] * qx + pose[1] * qy + pose[2] * qz
    y = pose[3] * qx + pose[4] * qy + pose[5] * qz
    z = pose[6] * qx + pose[7] * qy + pose[8] * qz
    total, material = FAR_OUTSIDE, 0
    for i in range(rows.shape[0]):
        row = rows[i]
        px, py, pz = _to_first_copy(row, x, y, z)
        px, py, pz = px - row[CENTRE], py - row[CENTRE + 1], pz - row[CENTRE + 2]
        blend, operation = row[BLEND], int(row[OPERATION])
        least = math.sqrt(px * px + py * py + pz * pz) - row[BOUND]
        if least > (-total if operation == SUBTRACTION else total) + blend:
            continue
        r = row[ROTATION : ROTATION + 9]
        d = distance(
            row,
            r[0] * px + r[1] * py + r[2] * pz,
            r[3] * px + r[4] * py + r[5] * pz,
            r[6] * px + r[7] * py + r[8] * pz,
        )
        if operation == SUBTRACTION:
            if -d > total:
                material = int(row[MATERIAL])
            h = max(blend - abs(total + d), 0.0) / blend
            total = max(total, -d) + h * h * blend * 0.25
        else:
            if d < total:
                material = int(row[MATERIAL])
            h = max(blend - abs(total - d), 0.0) / blend if operation == SMOOTH_UNION else 0.0
            total = min(total, d) - h * h * blend * 0.25
    return total / scale, material


@njit(**_FAST)
def _to_first_copy(row: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Fold space by the primitive's mirror planes (1: x, 2: z, 3: both) and n-fold rotation about y."""
    mirror = int(row[MIRROR])
    if mirror & 1:
        x = abs(x)
    if mirror & 2:
        z = abs(z)
    if row[REPEAT] > 1.5:
        angle = 2.0 * math.pi / row[REPEAT]
        theta = math.atan2(z, x)
        theta -= angle * math.floor(theta / angle + 0.5)
        length = math.hypot(x, z)
        x, z = length * math.cos(theta), length * math.sin(theta)
    return x, y, z


@njit(**_FAST)
def gradient(rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float) -> tuple[float, float, float, float]:
    """Value and gradient of the field from the four corners of a small tetrahedron."""
    h = GRADIENT_STEP
    a = fold(rows, pose, x + h, y - h, z - h)[0]
    b = fold(rows, pose, x - h, y - h, z + h)[0]
    c = fold(rows, pose, x - h, y + h, z - h)[0]
    d = fold(rows, pose, x + h, y + h, z + h)[0]
    q = 1.0 / (4.0 * h)
    return 0.25 * (a + b + c + d), (a - b - c + d) * q, (-a - b + c + d) * q, (-a + b - c + d) * q


@njit(**_FAST)
def estimate(rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float) -> float:
    """Signed distance estimate at one point, positive inside.

    Near the surface the folded value is divided by the length of its gradient (kept in 0.35..1.5), because blends and
    some primitives are not true distances.
    """
    d = fold(rows, pose, x, y, z)[0]
    if abs(d) < 0.25:
        _, gx, gy, gz = gradient(rows, pose, x, y, z)
        d /= min(max(math.sqrt(gx * gx + gy * gy + gz * gz), 0.35), 1.5)
    return -d


@njit(parallel=True, cache=True, error_model="numpy")
def evaluate(rows: np.ndarray, pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``estimate`` at (N, 3) points, (N,) float32."""
    out = np.empty(points.shape[0], np.float32)
    for i in prange(points.shape[0]):
        out[i] = estimate(rows, pose, float(points[i, 0]), float(points[i, 1]), float(points[i, 2]))
    return out


@njit(**_FAST)
def crossing(
    rows: np.ndarray,
    pose: np.ndarray,
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    length: float,
    skip: int,
) -> float:
    """Distance along a ray to its crossing number ``skip`` (0 = first) with the surface; -1 when there is none."""
    t, sign = 0.0, 1.0
    for _ in range(400):
        d = sign * fold(rows, pose, x + t * dx, y + t * dy, z + t * dz)[0]
        if d < 1.5e-3:
            if skip == 0:
                return t
            skip -= 1
            sign = -sign
            t += 6e-3
            if sign * fold(rows, pose, x + t * dx, y + t * dy, z + t * dz)[0] < 0.0:
                sign = -sign
            continue
        t += max(d * 0.9, 1.5e-3)
        if t > length:
            return -1.0
    return -1.0


@njit(**_FAST)
def refined(
    rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float
) -> tuple[float, float, float, float, float, float, bool]:
    """A point near the surface brought onto it by two Newton steps along the gradient.

    Returns the point, its outward unit normal, and whether it parts space: outside ahead and inside behind, not where
    two parts merely touch within the solid.
    """
    gx = gy = gz = 0.0
    for _ in range(2):
        d, gx, gy, gz = gradient(rows, pose, x, y, z)
        step = min(max(d / max(gx * gx + gy * gy + gz * gz, 0.05), -0.02), 0.02)
        x, y, z = x - step * gx, y - step * gy, z - step * gz
    q = 1.0 / max(math.sqrt(gx * gx + gy * gy + gz * gz), 1e-4)
    nx, ny, nz = gx * q, gy * q, gz * q
    h = 2e-3
    ahead = fold(rows, pose, x + h * nx, y + h * ny, z + h * nz)[0]
    behind = fold(rows, pose, x - h * nx, y - h * ny, z - h * nz)[0]
    return x, y, z, nx, ny, nz, ahead > 0.0 and behind < 0.0


@njit(parallel=True, cache=True, error_model="numpy")
def shoot(
    rows: np.ndarray, pose: np.ndarray, starts: np.ndarray, ways: np.ndarray, skips: np.ndarray, length: float
) -> np.ndarray:
    """Surface points where rays cross, refined by two Newton steps along the gradient.

    starts, ways: (N, 3), ways of length 1; skips: (N,) which crossing to keep
    Returns (N, 6) float64 points and unit normals (outward); all zero where a ray found nothing.
    """
    out = np.zeros((starts.shape[0], 6))
    for i in prange(starts.shape[0]):
        x, y, z = starts[i, 0], starts[i, 1], starts[i, 2]
        dx, dy, dz = ways[i, 0], ways[i, 1], ways[i, 2]
        t = crossing(rows, pose, x, y, z, dx, dy, dz, length, skips[i])
        if t < 0.0:
            continue
        x, y, z, nx, ny, nz, parts = refined(rows, pose, x + t * dx, y + t * dy, z + t * dz)
        if parts:
            out[i, 0], out[i, 1], out[i, 2] = x, y, z
            out[i, 3], out[i, 4], out[i, 5] = nx, ny, nz
    return out


def surface_points(
    rows: np.ndarray, pose: np.ndarray, count: int, rng: np.random.Generator, *, half_box: float
) -> np.ndarray:
    """Points spread over the whole surface, inner walls included: (count, 6) points and outward normals.

    Rays run through random points of the box [-half_box, half_box]^3 in random directions; crossing 1, 2, 3 or 4 is
    kept with chances .5, .25, .15, .1. Fewer than ``count`` rows come back only when 64 rounds do not find enough.
    """
    length = 7.2 * half_box
    found: list[np.ndarray] = []
    total = 0
    for _ in range(64):
        ways = rng.normal(size=(count, 3))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        starts = rng.uniform(-half_box, half_box, (count, 3)) - ways * length / 2  # outside: 3.6 > sqrt(3) + 1
        skips = rng.choice(4, count, p=(0.5, 0.25, 0.15, 0.1))
        points = shoot(rows, pose, starts, ways, skips, length)
        points = points[np.abs(points[:, 3:]).sum(1) > 0]
        found.append(points)
        total += len(points)
        if total >= count:
            break
    return np.concatenate(found)[:count]


def bounding_box(
    rows: np.ndarray, pose: np.ndarray, rng: np.random.Generator, *, half_box: float = 1.7
) -> tuple[np.ndarray, np.ndarray] | None:
    """(lowest, highest) corner (3,) of the surface; None when hardly any surface is found.

    Points all over the surface, then rays through the surroundings of the extreme ones: tips are thin.
    """
    count, rays, reach = 3000, 200, 0.08
    points = surface_points(rows, pose, count, rng, half_box=half_box)[:, :3]
    if len(points) < count / 2:
        return None
    length = 7.2 * half_box
    for _ in range(2):
        extremes = np.concatenate([points[points.argmin(0)], points[points.argmax(0)]])
        centres = np.repeat(extremes, rays, axis=0)
        ways = rng.normal(size=centres.shape)
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        starts = centres + rng.uniform(-reach, reach, centres.shape) - ways * length / 2
        hits = shoot(rows, pose, starts, ways, np.zeros(len(ways), np.int64), length)
        points = np.concatenate([points, hits[np.abs(hits[:, 3:]).sum(1) > 0, :3]])
        reach /= 3
    return points.min(0), points.max(0)
