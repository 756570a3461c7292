"""What one pixel of a paint model's maps shows: albedo, normal and position, seen by an orthographic camera.

Encoded as ``hy3dgen.rendering.maps`` encodes a mesh's. Scalar functions as in ``scalar``: numba compiles them for the
CPU, ``translate`` writes them as CUDA C. A frame says how a shape is scaled, a view where its camera stands.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from benchmarks.shapes.folding import fold, gradient
from benchmarks.shapes.render import unlit
from hy3dgen.rendering.cameras import SCALE_FACTOR, View

MAP_CHANNELS = 9  # albedo, normal, position
FRAME_FLOATS = 7  # centre (3), half box around it (3), scale
ROOM = 0.04  # of a frame's box around the points that it was measured by: tips may lie between them
VIEW_FLOATS = 10  # across, down, the way of the rays (3 each, file space), width of the window
_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


def view_rows(views_deg: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(V, VIEW_FLOATS) float64 of azimuths and elevations."""
    rows = np.empty((len(views_deg), VIEW_FLOATS))
    for row, (azimuth, elevation) in zip(rows, views_deg, strict=True):
        view = View(azimuth, elevation)
        x, y, z = np.linalg.inv(view.matrix().astype(np.float64))[:3, :3]  # renderer space; columns are the camera's
        across, down, back = np.stack([-x, -z, y], 1)  # to file space, see rendering.cameras
        row[:3], row[3:6], row[6:9], row[9] = across, down, -back, view.ortho_scale
    return rows


def frame_rows(points: Tensor) -> Tensor:
    """(B, FRAME_FLOATS) how the official cameras frame shapes. points: (B, N, 3) of their surfaces."""
    low, high = points.amin(1), points.amax(1)
    centre, half = (low + high) / 2, (high - low) / 2
    scale = SCALE_FACTOR / (2 * (points - centre[:, None]).norm(dim=-1).amax(1, keepdim=True))
    return torch.cat([centre, half + ROOM, scale], 1)


@njit(**_FAST)
def map_pixel(
    rows: np.ndarray,
    pose: np.ndarray,
    materials: np.ndarray,
    frame: np.ndarray,
    view: np.ndarray,
    size: int,
    px: int,
    py: int,
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """MAP_CHANNELS values in [0, 1], all 1 where there is nothing."""
    scale = frame[6]
    cx = (2.0 * px / (size - 1) - 1.0) * 0.5 * view[9] / scale
    cy = (2.0 * py / (size - 1) - 1.0) * 0.5 * view[9] / scale
    dx, dy, dz = view[6], view[7], view[8]
    # where the ray passes the plane through the centre, from there
    ox, oy, oz = view[0] * cx + view[3] * cy, view[1] * cx + view[4] * cy, view[2] * cx + view[5] * cy
    t, end = _within(frame, ox, oy, oz, dx, dy, dz)
    if t >= end:
        return 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0
    ox, oy, oz = ox + frame[0], oy + frame[1], oz + frame[2]
    hit = False
    for _ in range(192):
        d = fold(rows, pose, ox + t * dx, oy + t * dy, oz + t * dz)[0]
        if d < 1e-3:
            hit = True
            break
        t += 0.95 * d
        if t > end:
            break
    if not hit:
        return 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    red, green, blue = unlit(rows, pose, x, y, z, materials)
    _, nx, ny, nz = gradient(rows, pose, x, y, z)
    q = 0.5 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-4)
    place = scale / SCALE_FACTOR
    # maps hold inward normals of renderer space (-x, z, -y), and 0.5 - position / sphere
    return (
        red,
        green,
        blue,
        0.5 + nx * q,
        0.5 - nz * q,
        0.5 + ny * q,
        0.5 + (x - frame[0]) * place,
        0.5 - (z - frame[2]) * place,
        0.5 + (y - frame[1]) * place,
    )


@njit(**_FAST)
def _within(frame: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Where a ray enters and leaves the frame's box, from its centre; the second is smaller when it misses."""
    enter, leave = -1e9, 1e9
    for axis in range(3):
        o = ox if axis == 0 else (oy if axis == 1 else oz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        half = frame[3 + axis]
        if abs(d) < 1e-9:
            if abs(o) > half:
                return 1.0, 0.0
            continue
        one, two = (-half - o) / d, (half - o) / d
        enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
    return enter, leave


@njit(**_FAST)
def map_byte(value: float) -> int:
    """A map's value as 8 bits, cut off as those of a mesh are."""
    return int(min(max(value, 0.0), 1.0) * 255.0)


@njit(**_FAST)
def draw_maps(
    rows: np.ndarray,
    pose: np.ndarray,
    materials: np.ndarray,
    frame: np.ndarray,
    views: np.ndarray,
    out: np.ndarray,
) -> None:
    """All views of one shape into out (V, MAP_CHANNELS, size, size) uint8."""
    size = out.shape[2]
    for number in range(out.shape[0]):
        for py in range(size):
            for px in range(size):
                values = map_pixel(rows, pose, materials, frame, views[number], size, px, py)
                for channel in range(9):
                    out[number, channel, py, px] = map_byte(values[channel])
