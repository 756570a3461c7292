"""Pictures of a folded field by sphere tracing, one numba loop over pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

from benchmarks.shapes.folding import fold, gradient
from benchmarks.shapes.look import Camera, Light

SCENE_RADIUS = 1.75  # the normalised shape lies within this sphere
# effects: steps of a cel-shaded key light (0 = smooth), its colour (3), strength of the shadows that it throws
EFFECT_FLOATS = 5
PLAIN = np.array([0.0, 1.0, 1.0, 1.0, 0.0])
_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


def render(
    rows: np.ndarray,
    pose: np.ndarray,
    camera: Camera,
    light: Light,
    materials: np.ndarray,
    size_px: int,
    *,
    samples: int = 1,
) -> np.ndarray:
    """A cut-out picture of the shape.

    rows: (N, ROW_FLOATS); pose: (13,); materials: (8, 11); samples: rays a pixel along each axis
    Returns (size_px, size_px, 4) uint8, straight alpha; (255, 255, 255, 0) where there is nothing.
    """
    fine = trace(rows, pose, camera.row(), light.row(), materials, size_px * samples)
    blocks = fine.reshape(size_px, samples, size_px, samples, 4).transpose(0, 2, 1, 3, 4)
    blocks = blocks.reshape(size_px, size_px, samples * samples, 4)
    alpha = blocks[..., 3:].sum(2)
    colour = (blocks[..., :3] * blocks[..., 3:]).sum(2) / np.maximum(alpha, 1e-6)
    picture = np.concatenate([np.where(alpha > 0, colour, 1.0), alpha / samples**2], axis=-1)
    return np.rint(picture * 255).astype(np.uint8)


def silhouette(rows: np.ndarray, pose: np.ndarray, camera: Camera, size_px: int) -> np.ndarray:
    """(size_px, size_px) bool: where the camera sees the shape."""
    unlit = np.zeros((8, 11))
    return trace(rows, pose, camera.row(), Light((0, 0, 1)).row(), unlit, size_px)[..., 3] > 0.5


@njit(parallel=True, cache=True, error_model="numpy")
def trace(
    rows: np.ndarray, pose: np.ndarray, camera: np.ndarray, light: np.ndarray, materials: np.ndarray, size: int
) -> np.ndarray:
    """(size, size, 4) float32 RGBA in [0, 1], alpha 0 or 1."""
    out = np.zeros((size, size, 4), np.float32)
    oy, oz = camera[1] * math.sin(camera[0]), camera[1] * math.cos(camera[0])
    for i in prange(size * size):
        py, px = i // size, i % size
        dx, dy, dz = pixel_ray(camera, size, px, py)
        near, far = scene_interval(oy, oz, dy, dz, camera[1])
        t = first_hit(rows, pose, oy, oz, dx, dy, dz, near, far)
        if t < 0.0:
            continue
        x, y, z = t * dx, oy + t * dy, oz + t * dz
        _, nx, ny, nz = gradient(rows, pose, x, y, z)
        q = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-4)
        nx, ny, nz = nx * q, ny * q, nz * q
        r, g, b = shade(rows, pose, x, y, z, nx, ny, nz, dx, dy, dz, light, PLAIN, materials)
        out[py, px, 0], out[py, px, 1], out[py, px, 2], out[py, px, 3] = r, g, b, 1.0
    return out


@njit(**_FAST)
def pixel_ray(camera: np.ndarray, size: int, px: int, py: int) -> tuple[float, float, float]:
    """Direction, of length 1, of the ray through the middle of a pixel; it starts at the camera."""
    ce, se, cr, sr = math.cos(camera[0]), math.sin(camera[0]), math.cos(camera[5]), math.sin(camera[5])
    u0 = (2.0 * (px + 0.5) / size - 1.0) * camera[4]
    v0 = (1.0 - 2.0 * (py + 0.5) / size) * camera[4]
    u, v = camera[2] + cr * u0 - sr * v0, camera[3] + sr * u0 + cr * v0
    dx, dy, dz = u, -se + v * ce, -ce - v * se
    q = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
    return dx * q, dy * q, dz * q


@njit(**_FAST)
def scene_interval(oy: float, oz: float, dy: float, dz: float, distance: float) -> tuple[float, float]:
    """Where the ray from (0, oy, oz), ``distance`` from the origin, enters and leaves the scene's sphere; the first is
    larger when it misses."""
    b = oy * dy + oz * dz
    discriminant = b * b - distance * distance + SCENE_RADIUS * SCENE_RADIUS
    if discriminant <= 0.0:
        return 1.0, 0.0
    root = math.sqrt(discriminant)
    return max(-b - root, 0.0), root - b


@njit(**_FAST)
def first_hit(
    rows: np.ndarray,
    pose: np.ndarray,
    oy: float,
    oz: float,
    dx: float,
    dy: float,
    dz: float,
    near: float,
    far: float,
) -> float:
    """Distance along the ray from (0, oy, oz) to the surface between ``near`` and ``far``, -1 when it misses."""
    if near > far:
        return -1.0
    t = near
    enough = 4e-4 + 1.5e-4 * t  # about a quarter of a pixel at 512
    for _ in range(192):
        d = fold(rows, pose, t * dx, oy + t * dy, oz + t * dz)[0]
        if d < enough:
            return t
        t += d * 0.95
        if t > far:
            break
    return -1.0


@njit(**_FAST)
def shade(
    rows: np.ndarray,
    pose: np.ndarray,
    x: float,
    y: float,
    z: float,
    nx: float,
    ny: float,
    nz: float,
    dx: float,
    dy: float,
    dz: float,
    light: np.ndarray,
    effects: np.ndarray,
    materials: np.ndarray,
) -> tuple[float, float, float]:
    """sRGB in [0, 1] of a surface point with normal (nx, ny, nz), seen along (dx, dy, dz).

    light: ``Light.row``; effects: EFFECT_FLOATS, see PLAIN; materials: (8, MATERIAL_FLOATS)
    """
    m = materials[fold(rows, pose, x, y, z)[1] % materials.shape[0]]
    share, grain = _pattern(m, pose, x, y, z)
    lx, ly, lz = light[0], light[1], light[2]
    key, ambient, specular, occlusion, flat, rim = light[3], light[4], light[5], light[6], light[7], light[8]
    facing = nx * lx + ny * ly + nz * lz
    diffuse = max(facing, 0.0) * 0.75 + 0.25 * (0.5 + 0.5 * facing)
    open_sky = 1.0 - occlusion * _occlusion(rows, pose, x, y, z, nx, ny, nz) if occlusion > 0.0 else 1.0
    sky = ambient * (0.75 + 0.25 * ny) * open_sky
    sun = key * diffuse * (0.6 + 0.4 * open_sky)
    if effects[4] > 0.0:
        sun *= 1.0 - effects[4] * _shadow(rows, pose, x + 0.02 * nx, y + 0.02 * ny, z + 0.02 * nz, lx, ly, lz)
    if effects[0] > 0.0:
        top = max(key, 1e-3)
        sun = math.floor(sun / top * effects[0] + 0.5) / effects[0] * top
    hx, hy, hz = lx - dx, ly - dy, lz - dz
    q = 1.0 / math.sqrt(max(hx * hx + hy * hy + hz * hz, 1e-6))
    gloss = specular * m[9] * max((nx * hx + ny * hy + nz * hz) * q, 0.0) ** 30.0
    edge = 0.3 * rim * (1.0 - max(-(nx * dx + ny * dy + nz * dz), 0.0)) ** 3.0
    r = _lit(m[0], m[3], share, grain, sky, sun, flat, effects[1]) + gloss - edge
    g = _lit(m[1], m[4], share, grain, sky, sun, flat, effects[2]) + gloss - edge
    b = _lit(m[2], m[5], share, grain, sky, sun, flat, effects[3]) + gloss - edge
    return min(max(r, 0.0), 1.0), min(max(g, 0.0), 1.0), min(max(b, 0.0), 1.0)


@njit(**_FAST)
def _lit(one: float, two: float, share: float, grain: float, sky: float, sun: float, flat: float, tint: float) -> float:
    """One channel: two colours mixed by the pattern, lit by a key of colour ``tint`` and a sky of its complement."""
    lit = (sky * (2.0 - tint) + sun * tint) * (1.0 - flat) + flat
    return (one * (1.0 - share) + two * share) * grain * lit


@njit(**_FAST)
def _shadow(rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float, lx: float, ly: float, lz: float) -> float:
    """0 = the light is seen, 1 = it is hidden; soft where the ray to it only passes close to something."""
    t, free = 0.03, 1.0
    for _ in range(24):
        d = fold(rows, pose, x + t * lx, y + t * ly, z + t * lz)[0]
        free = min(free, 0.5 + 4.0 * d / t)
        t += max(d, 0.03)
        if free <= 0.0 or t > 2.5:
            break
    return 1.0 - min(max(free, 0.0), 1.0)


@njit(**_FAST)
def unlit(
    rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float, materials: np.ndarray
) -> tuple[float, float, float]:
    """Colour of the surface at a point on it, without light: sRGB, from 0 to a little over 1 (fine noise)."""
    m = materials[fold(rows, pose, x, y, z)[1] % materials.shape[0]]
    share, grain = _pattern(m, pose, x, y, z)
    return (
        (m[0] * (1.0 - share) + m[3] * share) * grain,
        (m[1] * (1.0 - share) + m[4] * share) * grain,
        (m[2] * (1.0 - share) + m[5] * share) * grain,
    )


@njit(parallel=True, cache=True, error_model="numpy")
def unlit_at(rows: np.ndarray, pose: np.ndarray, points: np.ndarray, materials: np.ndarray) -> np.ndarray:
    """(N, 3) float32 colours in [0, 1] of (N, 3) surface points, without light."""
    out = np.empty((points.shape[0], 3), np.float32)
    for i in prange(points.shape[0]):
        r, g, b = unlit(rows, pose, points[i, 0], points[i, 1], points[i, 2], materials)
        out[i, 0], out[i, 1], out[i, 2] = min(max(r, 0.0), 1.0), min(max(g, 0.0), 1.0), min(max(b, 0.0), 1.0)
    return out


@njit(**_FAST)
def _occlusion(
    rows: np.ndarray, pose: np.ndarray, x: float, y: float, z: float, nx: float, ny: float, nz: float
) -> float:
    """0 = open, 1 = closed in, from the field at three steps along the normal."""
    closed = 0.0
    for i in range(1, 4):
        h = 0.05 * i
        d = fold(rows, pose, x + nx * h, y + ny * h, z + nz * h)[0]
        closed += (h - min(d, h)) / h / 3.0
    return min(max(closed, 0.0), 1.0)


@njit(**_FAST)
def _pattern(m: np.ndarray, pose: np.ndarray, wx: float, wy: float, wz: float) -> tuple[float, float]:
    """Share of the second colour, and the fine brightness noise, in the shape's own frame."""
    qx, qy, qz = wx * pose[12] + pose[9], wy * pose[12] + pose[10], wz * pose[12] + pose[11]
    x = pose[0] * qx + pose[1] * qy + pose[2] * qz
    y = pose[3] * qx + pose[4] * qy + pose[5] * qz
    z = pose[6] * qx + pose[7] * qy + pose[8] * qz
    kind, scale, phase = int(m[6]), m[7], m[8]
    share = 0.0
    if kind == 1:
        share = 1.0 if math.sin(scale * y + phase) > 0.0 else 0.0
    elif kind == 2:
        share = 1.0 if math.sin(scale * (x + 0.3 * z) + phase) > 0.0 else 0.0
    elif kind == 3:
        cell = math.floor(scale * 0.4 * x + phase) + math.floor(scale * 0.4 * y) + math.floor(scale * 0.4 * z)
        share = float(int(cell) & 1)
    elif kind == 4:
        share = min(max(0.5 + 0.7 * y, 0.0), 1.0)
    elif kind == 5:
        share = 1.0 if _noise(scale * 0.5 * x + phase, scale * 0.5 * y, scale * 0.5 * z) > 0.6 else 0.0
    elif kind == 6:
        share = _noise(scale * 0.4 * x + phase, scale * 0.8 * y, scale * 0.4 * z)
    grain = 1.0
    if m[10] > 0.0:
        coarse, fine = _noise(14.0 * x, 14.0 * y, 14.0 * z), _noise(31.0 * x, 31.0 * y, 31.0 * z)
        grain = 1.0 + m[10] * (coarse + 0.6 * fine - 0.8)
    return share, grain


@njit(**_FAST)
def _noise(x: float, y: float, z: float) -> float:
    """Smooth value noise in [0, 1] on the integer lattice."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    total = 0.0
    for corner in range(8):
        i, j, k = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (fx if i else 1 - fx) * (fy if j else 1 - fy) * (fz if k else 1 - fz)
        total += weight * _hash(int(ix) + i, int(iy) + j, int(iz) + k)
    return total


@njit(**_FAST)
def _hash(x: int, y: int, z: int) -> float:
    """A repeatable number in [0, 1) of three integers (PCG output function on 32 bits)."""
    mask = 0xFFFFFFFF
    h = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & mask
    h = (h * 747796405 + 2891336453) & mask
    h = (((h >> ((h >> 28) + 4)) ^ h) * 277803737) & mask
    return float(((h >> 22) ^ h) >> 8) / 16777216.0
