"""One point, ray or pixel of the generator at a time, on top of the benchmark's scalar functions.

The one source of truth of the fast generator: numba compiles these functions for the CPU (``loops``), ``translate``
writes them as CUDA C (``cuda``). Scalars, rows of floats and the two tables ``rows`` and ``materials`` only.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from benchmarks.shapes.folding import crossing, fold, gradient, refined
from benchmarks.shapes.render import first_hit, pixel_ray, scene_interval, shade

ATTEMPTS = 32
ROOM = 0.05  # free room around a box where rays begin, in units of its longest side
BOX_ROOM = 0.04  # around the box of a normalised shape, for the camera's rays
_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_FAST)
def mixed(state: int, word: int) -> int:
    """32 bits that depend on all bits of both (PCG output function); a chain of them is a random stream."""
    mask = 0xFFFFFFFF
    h = (state ^ word) & mask
    h = (h * 747796405 + 2891336453) & mask
    h = (((h >> ((h >> 28) + 4)) ^ h) * 277803737) & mask
    return ((h >> 22) ^ h) & mask


@njit(**_FAST)
def uniform(state: int, number: int) -> float:
    """Number ``number`` of a stream, in [0, 1), with 24 bits."""
    return float(mixed(state, number) >> 8) / 16777216.0


@njit(**_FAST)
def through(
    rows: np.ndarray,
    pose: np.ndarray,
    box: np.ndarray,
    x: float,
    y: float,
    z: float,
    dx: float,
    dy: float,
    dz: float,
    skip: int,
) -> tuple[float, float, float, float, float, float, bool]:
    """Surface point, normal and success of a ray through (x, y, z), from where it enters the box to where it leaves.

    box: lowest corner (3), highest corner (3); skip: the crossing that counts, 0 = first
    """
    room = ROOM * max(box[3] - box[0], box[4] - box[1], box[5] - box[2])
    enter, leave = -1e9, 1e9
    for axis in range(3):
        at = x if axis == 0 else (y if axis == 1 else z)
        way = dx if axis == 0 else (dy if axis == 1 else dz)
        if abs(way) < 1e-6:
            way = 1e-6
        one, two = (box[axis] - room - at) / way, (box[3 + axis] + room - at) / way
        enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
    sx, sy, sz = x + enter * dx, y + enter * dy, z + enter * dz
    t = crossing(rows, pose, sx, sy, sz, dx, dy, dz, leave - enter, skip)
    if t < 0.0:
        return x, y, z, 0.0, 0.0, 0.0, False
    return refined(rows, pose, sx + t * dx, sy + t * dy, sz + t * dz)


@njit(**_FAST)
def surface_point(
    rows: np.ndarray, pose: np.ndarray, box: np.ndarray, state: int
) -> tuple[float, float, float, float, float, float, bool]:
    """A random surface point, its normal and success: rays in random directions through random points of the box,
    until one meets the crossing it looks for; 1, 2, 3 or 4 with chances .5, .25, .15, .1, so that inner walls are
    covered. state: seed of this point's stream
    """
    for attempt in range(ATTEMPTS):
        first = 8 * attempt
        up = 2.0 * uniform(state, first) - 1.0
        around, flat = 2.0 * math.pi * uniform(state, first + 1), math.sqrt(max(1.0 - up * up, 0.0))
        x = box[0] + (box[3] - box[0]) * uniform(state, first + 2)
        y = box[1] + (box[4] - box[1]) * uniform(state, first + 3)
        z = box[2] + (box[5] - box[2]) * uniform(state, first + 4)
        draw = uniform(state, first + 5)
        skip = 0 if draw < 0.5 else (1 if draw < 0.75 else (2 if draw < 0.9 else 3))
        dx, dz = flat * math.cos(around), flat * math.sin(around)
        x, y, z, nx, ny, nz, good = through(rows, pose, box, x, y, z, dx, up, dz, skip)
        if good:
            return x, y, z, nx, ny, nz, True
    return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, False


@njit(**_FAST)
def box_interval(half: np.ndarray, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Where the ray from (0, oy, oz) enters and leaves a box of these half sizes around the origin; first > second when
    it misses."""
    near, far = 0.0, 1e9
    for axis in range(3):
        at = 0.0 if axis == 0 else (oy if axis == 1 else oz)
        way = dx if axis == 0 else (dy if axis == 1 else dz)
        if abs(way) < 1e-6:
            way = 1e-6
        size = half[axis] + BOX_ROOM
        one, two = (-size - at) / way, (size - at) / way
        near, far = max(near, min(one, two)), min(far, max(one, two))
    return near, far


@njit(**_FAST)
def interval(
    half: np.ndarray, oy: float, oz: float, dx: float, dy: float, dz: float, distance: float
) -> tuple[float, float]:
    """The part of a camera's ray that can meet the shape; no box (half sizes of 0) = the scene's sphere."""
    if half[0] <= 0.0:
        return scene_interval(oy, oz, dy, dz, distance)
    return box_interval(half, oy, oz, dx, dy, dz)


@njit(**_FAST)
def pixel(
    rows: np.ndarray,
    pose: np.ndarray,
    camera: np.ndarray,
    light: np.ndarray,
    effects: np.ndarray,
    materials: np.ndarray,
    half: np.ndarray,
    size: int,
    px: int,
    py: int,
) -> tuple[float, float, float, bool]:
    """Colour of a pixel and whether the shape is there; white elsewhere."""
    oy, oz = camera[1] * math.sin(camera[0]), camera[1] * math.cos(camera[0])
    dx, dy, dz = pixel_ray(camera, size, px, py)
    near, far = interval(half, oy, oz, dx, dy, dz, camera[1])
    t = first_hit(rows, pose, oy, oz, dx, dy, dz, near, far)
    if t < 0.0:
        return 1.0, 1.0, 1.0, False
    x, y, z = t * dx, oy + t * dy, oz + t * dz
    _, nx, ny, nz = gradient(rows, pose, x, y, z)
    q = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-4)
    nx, ny, nz = nx * q, ny * q, nz * q
    r, g, b = shade(rows, pose, x, y, z, nx, ny, nz, dx, dy, dz, light, effects, materials)
    return r, g, b, True


@njit(**_FAST)
def cell(
    rows: np.ndarray, pose: np.ndarray, camera: np.ndarray, half: np.ndarray, size: int, px: int, py: int
) -> tuple[float, float, float, float, float, float]:
    """What a pixel does not show: mask, front depth, back depth, normal; all 0 where there is nothing.

    Depths are the camera's distance to the origin minus the distance to the surface; the back is what a ray from behind
    meets first.
    """
    oy, oz = camera[1] * math.sin(camera[0]), camera[1] * math.cos(camera[0])
    dx, dy, dz = pixel_ray(camera, size, px, py)
    near, far = interval(half, oy, oz, dx, dy, dz, camera[1])
    front = first_hit(rows, pose, oy, oz, dx, dy, dz, near, far)
    if front < 0.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    back = far
    enough = 4e-4 + 1.5e-4 * back
    for _ in range(192):
        d = fold(rows, pose, back * dx, oy + back * dy, oz + back * dz)[0]
        if d < enough or back <= front:
            break
        back -= d * 0.95
    back = max(back, front)
    _, nx, ny, nz = gradient(rows, pose, front * dx, oy + front * dy, oz + front * dz)
    q = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-4)
    return 1.0, camera[1] - front, camera[1] - back, nx * q, ny * q, nz * q
