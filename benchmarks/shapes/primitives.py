"""Signed distance functions of ten primitives, in their own frames, for one point at a time.

All lengths share one unit; negative is inside. Functions that are not exact distances are scaled to stay conservative,
so that sphere tracing never steps through a wall. Compiled by numba; no arrays are made.
Parameters lie in one row of floats, whose columns the enums below name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# columns of a primitive's row
TYPE, OPERATION, BLEND, MIRROR, REPEAT, MATERIAL, CENTRE, ROTATION, PARAMETER, BOUND, INFLATE = (
    0, 1, 2, 3, 4, 5, 6, 9, 18, 34, 35,
)  # fmt: skip
ROW_FLOATS = 36
MAX_PARAMETERS = BOUND - PARAMETER

# types
BOX, ELLIPSOID, CONE, TORUS, LIMB, PRISM, REVOLVED, STAR, SILHOUETTE, TAPERED_BOX = range(10)

_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_FAST)
def _extrude(flat: float, z: float, half: float) -> float:
    """The distance of a flat shape extruded to |z| < half."""
    over = abs(z) - half
    return min(max(flat, over), 0.0) + math.hypot(max(flat, 0.0), max(over, 0.0))


@njit(**_FAST)
def _length3(x: float, y: float, z: float) -> float:
    return math.sqrt(x * x + y * y + z * z)


@njit(**_FAST)
def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


@njit(**_FAST)
def box(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Half sizes x, y, z; corner radius."""
    r = a[3]
    qx, qy, qz = abs(x) - a[0] + r, abs(y) - a[1] + r, abs(z) - a[2] + r
    return _length3(max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)) + min(max(qx, qy, qz), 0.0) - r


@njit(**_FAST)
def ellipsoid(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Three radii. Not an exact distance (Quilez' bound)."""
    k0 = _length3(x / a[0], y / a[1], z / a[2])
    k1 = _length3(x / (a[0] * a[0]), y / (a[1] * a[1]), z / (a[2] * a[2]))
    if k1 < 1e-6:
        return -min(a[0], a[1], a[2])
    return k0 * (k0 - 1.0) / k1


@njit(**_FAST)
def cone(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Capped cone along y: half height, bottom radius, top radius, edge radius."""
    r = a[3]
    h, r1, r2 = a[0] - r, max(a[1] - r, 0.0), max(a[2] - r, 0.0)
    qx = math.hypot(x, z)
    kx, ky = r2 - r1, 2.0 * h
    cap_x = qx - min(qx, r1 if y < 0.0 else r2)
    cap_y = abs(y) - h
    t = _clamp(((r2 - qx) * kx + (h - y) * ky) / (kx * kx + ky * ky), 0.0, 1.0)
    side_x, side_y = qx - r2 + kx * t, y - h + ky * t
    sign = -1.0 if side_x < 0.0 and cap_y < 0.0 else 1.0
    return sign * math.sqrt(min(cap_x * cap_x + cap_y * cap_y, side_x * side_x + side_y * side_y)) - r


@njit(**_FAST)
def torus(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Ring or arc in the xy plane, open at -y: ring radius, tube radius, sine and cosine of the half opening angle."""
    px = abs(x)
    k = px * a[2] + y * a[3] if a[3] * px > a[2] * y else math.hypot(px, y)
    return math.sqrt(max(x * x + y * y + z * z + a[0] * a[0] - 2.0 * a[0] * k, 0.0)) - a[1]


@njit(**_FAST)
def limb(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Round cone from the origin to (0, length, 0): length, radius at the start, radius at the end."""
    h, r1, r2 = a[0], a[1], a[2]
    b = _clamp((r1 - r2) / h, -0.999, 0.999)
    c = math.sqrt(1.0 - b * b)
    qx = math.hypot(x, z)
    k = c * y - b * qx
    if k < 0.0:
        return math.hypot(qx, y) - r1
    if k > c * h:
        return math.hypot(qx, y - h) - r2
    return qx * c + y * b - r1


@njit(**_FAST)
def prism(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Isosceles triangle, apex up, extruded along z: half width, height, half length, edge radius."""
    width, height = a[0], a[1]
    px, py = abs(x), height * 0.5 - y
    t = _clamp((px * width + py * height) / (width * width + height * height), 0.0, 1.0)
    ax, ay = px - width * t, py - height * t
    bx, by = px - width * _clamp(px / width, 0.0, 1.0), py - height
    outside = max(px * height - py * width, py - height) > 0.0
    flat = math.sqrt(min(ax * ax + ay * ay, bx * bx + by * by)) * (1.0 if outside else -1.0)
    return _extrude(flat, z, a[2] - a[3]) - a[3]


@njit(**_FAST)
def revolved(a: np.ndarray, x: float, y: float, z: float) -> float:
    """A profile turned about y: half height, then ten radii from bottom to top joined by a cubic curve."""
    h = a[0]
    u = _clamp((y + h) / (2.0 * h), 0.0, 1.0) * 9.0
    i = min(int(u), 8)
    f = u - i
    p0, p1, p2, p3 = a[1 + max(i - 1, 0)], a[1 + i], a[2 + i], a[1 + min(i + 2, 9)]
    m1, m2 = 0.5 * (p2 - p0), 0.5 * (p3 - p1)
    f2, f3 = f * f, f * f * f
    radius = (2 * f3 - 3 * f2 + 1) * p1 + (f3 - 2 * f2 + f) * m1 + (3 * f2 - 2 * f3) * p2 + (f3 - f2) * m2
    slope = ((6 * f2 - 6 * f) * p1 + (3 * f2 - 4 * f + 1) * m1 + (6 * f - 6 * f2) * p2 + (3 * f2 - 2 * f) * m2) * (
        9.0 / (2.0 * h)
    )
    slope = min(abs(slope), 4.0)
    flat = (math.hypot(x, z) - max(radius, 0.001)) / math.sqrt(1.0 + slope * slope)
    return 0.85 * _extrude(flat, y, h)


@njit(**_FAST)
def star(a: np.ndarray, x: float, y: float, z: float) -> float:
    """A star of n points extruded along z: radius, n, sharpness 2..n, half thickness, edge radius."""
    an, en = math.pi / a[1], math.pi / a[2]
    theta = math.atan2(x, y)
    bn = theta - 2.0 * an * math.floor(theta / (2.0 * an)) - an
    length = math.hypot(x, y)
    px = length * math.cos(bn) - a[0] * math.cos(an)
    py = length * abs(math.sin(bn)) - a[0] * math.sin(an)
    ex, ey = math.cos(en), math.sin(en)
    t = _clamp(-(px * ex + py * ey), 0.0, a[0] * math.sin(an) / ey)
    px += ex * t
    py += ey * t
    flat = math.hypot(px, py) * (1.0 if px > 0.0 else -1.0)
    return _extrude(flat, z, a[3] - a[4]) - a[4]


@njit(**_FAST)
def silhouette(a: np.ndarray, x: float, y: float, z: float) -> float:
    """A closed curve of five harmonics: mean radius, half thickness, inflated (1) or flat (0), edge radius, then
    (amplitude, phase) of each harmonic."""
    theta = math.atan2(y, x)
    radius, slope = a[0], 0.0
    for k in range(1, 6):
        amplitude, phase = a[2 + 2 * k], a[3 + 2 * k]
        radius += amplitude * math.cos(k * theta + phase)
        slope -= amplitude * k * math.sin(k * theta + phase)
    radius = max(radius, 0.05)
    length = math.hypot(x, y)
    slope = min(abs(slope) / max(length, 0.4 * radius), 3.0)
    if a[2] < 0.5:
        return _extrude((length - radius) / math.sqrt(1.0 + slope * slope), z, a[1] - a[3]) - a[3]
    q, w = length / radius, z / a[1]
    g = math.hypot(q, w)
    small = min(radius, a[1])
    d = (g - 1.0) * min(small, 0.5 * (radius + a[1])) * 0.8 / math.sqrt(1.0 + 0.5 * slope * slope)
    return max(d, (g - 1.0) * small * 0.6) if g > 1.5 else d


@njit(**_FAST)
def tapered_box(a: np.ndarray, x: float, y: float, z: float) -> float:
    """Half sizes x, y, z at the bottom; edge radius; scale of x and of z at the top."""
    r = a[3]
    u = _clamp((y + a[1]) / (2.0 * a[1]), 0.0, 1.0)
    sx, sz = 1.0 + (a[4] - 1.0) * u, 1.0 + (a[5] - 1.0) * u
    kx, kz = (a[4] - 1.0) * a[0] / (2.0 * a[1]), (a[5] - 1.0) * a[2] / (2.0 * a[1])
    qx = (abs(x) - max(a[0] * sx - r, 0.0)) / math.sqrt(1.0 + kx * kx)
    qz = (abs(z) - max(a[2] * sz - r, 0.0)) / math.sqrt(1.0 + kz * kz)
    qy = abs(y) - a[1] + r
    d = _length3(max(qx, 0.0), max(qy, 0.0), max(qz, 0.0)) + min(max(qx, qy, qz), 0.0) - r
    return 0.9 * d


@njit(**_FAST)
def distance(row: np.ndarray, x: float, y: float, z: float) -> float:
    """The signed distance of one primitive's row at a point of its own frame."""
    a = row[PARAMETER:BOUND]
    kind = int(row[TYPE])
    if kind == BOX:
        d = box(a, x, y, z)
    elif kind == ELLIPSOID:
        d = ellipsoid(a, x, y, z)
    elif kind == CONE:
        d = cone(a, x, y, z)
    elif kind == TORUS:
        d = torus(a, x, y, z)
    elif kind == LIMB:
        d = limb(a, x, y, z)
    elif kind == PRISM:
        d = prism(a, x, y, z)
    elif kind == REVOLVED:
        d = revolved(a, x, y, z)
    elif kind == STAR:
        d = star(a, x, y, z)
    elif kind == SILHOUETTE:
        d = silhouette(a, x, y, z)
    else:
        d = tapered_box(a, x, y, z)
    return d - row[INFLATE]
