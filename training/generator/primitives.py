"""The ten primitives of ``benchmarks.shapes.primitives`` for many parts and points at once, in torch.

Every function takes ``a``, the parameters (K, 16) of K parts of one type, and x, y, z, each (K, N), in the parts' own
frames; it returns (K, N) signed distances, negative inside. Any floating dtype. The scalar functions of the same names
there are the truth; equality is tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.shapes import primitives as scalar

Distance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _columns(a: Tensor, *indices: int) -> list[Tensor]:
    """Parameters as (K, 1), to meet (K, N)."""
    return [a[:, i : i + 1] for i in indices]


def _extrude(flat: Tensor, z: Tensor, half: Tensor) -> Tensor:
    over = z.abs() - half
    return torch.maximum(flat, over).clamp_max(0) + torch.hypot(flat.clamp_min(0), over.clamp_min(0))


def _length(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return (x * x + y * y + z * z).sqrt()


def _outside_box(qx: Tensor, qy: Tensor, qz: Tensor) -> Tensor:
    inner = torch.maximum(torch.maximum(qx, qy), qz).clamp_max(0)
    return _length(qx.clamp_min(0), qy.clamp_min(0), qz.clamp_min(0)) + inner


def box(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    hx, hy, hz, r = _columns(a, 0, 1, 2, 3)
    return _outside_box(x.abs() - hx + r, y.abs() - hy + r, z.abs() - hz + r) - r


def ellipsoid(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    rx, ry, rz = _columns(a, 0, 1, 2)
    k0 = _length(x / rx, y / ry, z / rz)
    k1 = _length(x / (rx * rx), y / (ry * ry), z / (rz * rz))
    centre = -torch.minimum(torch.minimum(rx, ry), rz).expand_as(k1)
    return torch.where(k1 < 1e-6, centre, k0 * (k0 - 1) / k1.clamp_min(1e-6))


def cone(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    half, bottom, top, r = _columns(a, 0, 1, 2, 3)
    h, r1, r2 = half - r, (bottom - r).clamp_min(0), (top - r).clamp_min(0)
    qx = torch.hypot(x, z)
    kx, ky = r2 - r1, 2 * h
    cap_x = qx - torch.minimum(qx, torch.where(y < 0, r1, r2))
    cap_y = y.abs() - h
    t = (((r2 - qx) * kx + (h - y) * ky) / (kx * kx + ky * ky)).clamp(0, 1)
    side_x, side_y = qx - r2 + kx * t, y - h + ky * t
    inside = (side_x < 0) & (cap_y < 0)
    d = torch.minimum(cap_x * cap_x + cap_y * cap_y, side_x * side_x + side_y * side_y).sqrt()
    return torch.where(inside, -d, d) - r


def torus(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    ring, tube, sine, cosine = _columns(a, 0, 1, 2, 3)
    px = x.abs()
    k = torch.where(cosine * px > sine * y, px * sine + y * cosine, torch.hypot(px, y))
    return (x * x + y * y + z * z + ring * ring - 2 * ring * k).clamp_min(0).sqrt() - tube


def limb(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    h, r1, r2 = _columns(a, 0, 1, 2)
    b = ((r1 - r2) / h).clamp(-0.999, 0.999)
    c = (1 - b * b).sqrt()
    qx = torch.hypot(x, z)
    k = c * y - b * qx
    end = torch.where(k > c * h, torch.hypot(qx, y - h) - r2, qx * c + y * b - r1)
    return torch.where(k < 0, torch.hypot(qx, y) - r1, end)


def prism(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    width, height, half, r = _columns(a, 0, 1, 2, 3)
    px, py = x.abs(), height * 0.5 - y
    t = ((px * width + py * height) / (width * width + height * height)).clamp(0, 1)
    ax, ay = px - width * t, py - height * t
    bx, by = px - width * (px / width).clamp(0, 1), py - height
    outside = torch.maximum(px * height - py * width, by) > 0
    d = torch.minimum(ax * ax + ay * ay, bx * bx + by * by).sqrt()
    return _extrude(torch.where(outside, d, -d), z, half - r) - r


def revolved(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    (h,) = _columns(a, 0)
    u = ((y + h) / (2 * h)).clamp(0, 1) * 9
    i = u.long().clamp_max(8)
    f = u - i
    radii = a[:, 1:11]
    p0, p1, p2, p3 = (radii.gather(1, (i + shift).clamp(0, 9)) for shift in (-1, 0, 1, 2))
    m1, m2 = 0.5 * (p2 - p0), 0.5 * (p3 - p1)
    f2, f3 = f * f, f * f * f
    radius = (2 * f3 - 3 * f2 + 1) * p1 + (f3 - 2 * f2 + f) * m1 + (3 * f2 - 2 * f3) * p2 + (f3 - f2) * m2
    slope = (6 * f2 - 6 * f) * p1 + (3 * f2 - 4 * f + 1) * m1 + (6 * f - 6 * f2) * p2 + (3 * f2 - 2 * f) * m2
    slope = (slope * (9 / (2 * h))).abs().clamp_max(4)
    flat = (torch.hypot(x, z) - radius.clamp_min(0.001)) / (1 + slope * slope).sqrt()
    return 0.85 * _extrude(flat, y, h)


def star(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    radius, points, sharp, half, r = _columns(a, 0, 1, 2, 3, 4)
    an, en = math.pi / points, math.pi / sharp
    theta = torch.atan2(x, y)
    bn = theta - 2 * an * (theta / (2 * an)).floor() - an
    length = torch.hypot(x, y)
    px = length * bn.cos() - radius * an.cos()
    py = length * bn.sin().abs() - radius * an.sin()
    ex, ey = en.cos(), en.sin()
    t = torch.minimum((-(px * ex + py * ey)).clamp_min(0), radius * an.sin() / ey)
    px, py = px + ex * t, py + ey * t
    d = torch.hypot(px, py)
    return _extrude(torch.where(px > 0, d, -d), z, half - r) - r


def silhouette(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    mean, half, inflated, r = _columns(a, 0, 1, 2, 3)
    theta = torch.atan2(y, x)
    radius, slope = mean.expand_as(theta), torch.zeros_like(theta)
    for k in range(1, 6):
        amplitude, phase = _columns(a, 2 + 2 * k, 3 + 2 * k)
        angle = k * theta + phase
        radius = radius + amplitude * angle.cos()
        slope = slope - amplitude * k * angle.sin()
    radius = radius.clamp_min(0.05)
    length = torch.hypot(x, y)
    slope = (slope.abs() / torch.maximum(length, 0.4 * radius)).clamp_max(3)
    flat = _extrude((length - radius) / (1 + slope * slope).sqrt(), z, half - r) - r
    g = torch.hypot(length / radius, z / half)
    small = torch.minimum(radius, half)
    puffed = (g - 1) * torch.minimum(small, 0.5 * (radius + half)) * 0.8 / (1 + 0.5 * slope * slope).sqrt()
    puffed = torch.where(g > 1.5, torch.maximum(puffed, (g - 1) * small * 0.6), puffed)
    return torch.where(inflated < 0.5, flat, puffed)


def tapered_box(a: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    hx, hy, hz, r, top_x, top_z = _columns(a, 0, 1, 2, 3, 4, 5)
    u = ((y + hy) / (2 * hy)).clamp(0, 1)
    sx, sz = 1 + (top_x - 1) * u, 1 + (top_z - 1) * u
    kx, kz = (top_x - 1) * hx / (2 * hy), (top_z - 1) * hz / (2 * hy)
    qx = (x.abs() - (hx * sx - r).clamp_min(0)) / (1 + kx * kx).sqrt()
    qz = (z.abs() - (hz * sz - r).clamp_min(0)) / (1 + kz * kz).sqrt()
    return 0.9 * (_outside_box(qx, y.abs() - hy + r, qz) - r)


DISTANCES: dict[int, Distance] = {
    scalar.BOX: box,
    scalar.ELLIPSOID: ellipsoid,
    scalar.CONE: cone,
    scalar.TORUS: torus,
    scalar.LIMB: limb,
    scalar.PRISM: prism,
    scalar.REVOLVED: revolved,
    scalar.STAR: star,
    scalar.SILHOUETTE: silhouette,
    scalar.TAPERED_BOX: tapered_box,
}
