"""Quadrupeds, bipeds and robots, birds, fish."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.categories.vehicles import UPRIGHT
from benchmarks.shapes.sketch import Sketch

# a prism whose axis runs along x and whose apex points to +z
TAIL_FIN = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])


def quadruped(s: Sketch) -> None:
    length, r, k, fat = s.between(0.35, 0.6), s.between(0.18, 0.36), s.between(0.03, 0.15), s.between(0.8, 1.2)
    s.ellipsoid((0, 0, 0), (r * fat, r, length), mat=0)
    chest = (r * fat * 0.9, r * s.between(0.9, 1.15), length * 0.45)
    s.ellipsoid((0, s.between(-0.03, 0.08), length * 0.55), chest, blend=k, mat=0)
    leg, lr, x, z = s.between(0.25, 0.7), s.between(0.05, 0.13), r * fat * 0.6, length * 0.65
    for place, thick in ((z, 1.3), (-z, 1.4)):
        foot = (x + s.between(-0.03, 0.05), -r - leg, place + s.between(-0.1, 0.1))
        s.limb((x, -0.05, place), foot, lr * thick, lr, mirror=1, blend=k * 0.6, mat=0)
        if s.maybe(0.5):
            paw = (lr * 1.2, lr * 0.7, lr * 1.5)
            s.ellipsoid((x, -r - leg, place + 0.04), paw, mirror=1, blend=0.03, mat=1)
    neck, rise = s.between(0.1, 0.55), s.between(0.2, 1.3)
    head = (0, r * 0.4 + neck * math.sin(rise), length * 0.85 + neck * math.cos(rise))
    s.limb((0, r * 0.3, length * 0.75), head, r * s.between(0.5, 0.8), r * s.between(0.35, 0.6), blend=k, mat=0)
    _animal_head(s, head[1], head[2], k)
    if s.maybe(0.85):
        up, tail = s.between(-1.2, 1.2), s.between(0.1, 0.6)
        tip = (0, r * 0.4 + tail * math.sin(up), -length * 0.9 - tail * math.cos(up))
        s.limb((0, r * 0.4, -length * 0.9), tip, s.between(0.04, 0.12), s.between(0.02, 0.1), blend=0.05, mat=0)


def _animal_head(s: Sketch, y: float, z: float, k: float) -> None:
    r = s.between(0.15, 0.32)
    skull = (r * s.between(0.8, 1.1), r, r * s.between(0.9, 1.2))
    s.ellipsoid((0, y + r * 0.3, z + r * 0.3), skull, blend=k * 0.5, mat=0)
    snout = s.between(0.05, 0.35)
    if s.maybe(0.85):
        nose = (0, y + r * 0.05 - s.between(0, 0.1), z + r + snout)
        s.limb(
            (0, y + r * 0.1, z + r * 0.6), nose, r * s.between(0.4, 0.65), r * s.between(0.25, 0.5), blend=0.05, mat=1
        )
    ears, x = s.whole(0, 3), r * s.between(0.4, 0.7)
    if ears == 0:
        tip = (x * s.between(1.0, 1.8), y + r + s.between(0.1, 0.45), z + s.between(-0.1, 0.1))
        s.limb((x, y + r, z + r * 0.2), tip, s.between(0.05, 0.1), s.between(0.02, 0.06), mirror=1, blend=0.03, mat=0)
    elif ears == 1:
        size = (s.between(0.06, 0.13), s.between(0.06, 0.13), 0.04)
        s.ellipsoid((x * 1.4, y + r * 1.1, z + 0.05), size, mirror=1, blend=0.02, mat=1)
    elif ears == 2:
        size = (s.between(0.03, 0.05), s.between(0.1, 0.25), s.between(0.06, 0.1))
        s.ellipsoid((r * 0.95, y + r * 0.2, z + 0.05), size, mirror=1, mat=1)
    if s.maybe(0.15):  # horns
        tip = (x * s.between(1.5, 3.0), y + r + s.between(0.2, 0.5), z - 0.1)
        s.limb((x, y + r, z), tip, 0.04, 0.02, mirror=1, mat=2)
    if s.maybe(0.6):
        s.ball((r * 0.4, y + r * 0.55, z + r * 1.15), 0.035, mirror=1, mat=3)
    if s.maybe(0.3):
        s.cylinder((0, y, z + r + snout), 0.03, 0.04, rot=UPRIGHT, mat=3)


def biped(s: Sketch) -> None:
    k, w, h, square = s.between(0.02, 0.12), s.between(0.15, 0.35), s.between(0.22, 0.42), s.maybe(0.35)
    d = w * s.between(0.55, 1.0)
    if square:
        s.tapered_box((0, 0, 0), (w, h, d), s.between(0.02, 0.08), s.between(0.75, 1.3), 1.0, mat=0)
    else:
        s.ellipsoid((0, 0, 0), (w, h, d), mat=0)
    r = s.between(0.14, 0.38)
    y = h + r * s.between(0.75, 1.1)
    s.limb((0, h * 0.6, 0), (0, y, 0), r * 0.4, r * 0.4, blend=0.03, mat=1)
    if square and s.maybe(0.6):
        s.box((0, y, 0), (r, r * s.between(0.75, 1.0), r * 0.9), s.between(0.02, 0.1), mat=1)
    else:
        s.ellipsoid((0, y, 0), (r * s.between(0.85, 1.1), r, r * s.between(0.85, 1.05)), mat=1)
    _legs(s, w, h, k, square)
    _arms(s, w, h, k)
    _hat(s, y, r, square)
    if s.maybe(0.7):
        s.ellipsoid((r * 0.4, y + 0.03, r * 0.88), (0.05, 0.06, 0.04), mirror=1, mat=4)
    if s.maybe(0.4):
        s.ellipsoid((0, y - r * 0.3, r * 0.95), (0.08, 0.06, 0.1), mat=1)
    if not square and s.maybe(0.3):
        s.ellipsoid((0, -0.05, d * 0.6), (w * 0.7, h * 0.7, d * 0.6), blend=0.03, mat=5)


def _legs(s: Sketch, w: float, h: float, k: float, square: bool) -> None:
    leg, r, x, apart = s.between(0.25, 0.7), s.between(0.06, 0.14), w * s.between(0.4, 0.7), s.between(0, 0.2)
    if not square or s.maybe(0.4):
        foot = (x + apart, -h * 0.7 - leg, s.between(-0.05, 0.05))
        s.limb((x, -h * 0.7, 0), foot, r * 1.2, r, mirror=1, blend=k * 0.5, mat=2)
    if square:
        s.box((x, -h - leg * 0.45, 0), (r, leg * 0.5, r), 0.02, mirror=1, mat=2)
    if s.maybe(0.7):
        s.ellipsoid((x + apart, -h * 0.7 - leg, 0.06), (r * 1.2, r * 0.8, r * 1.8), mirror=1, mat=3)


def _arms(s: Sketch, w: float, h: float, k: float) -> None:
    length, r = s.between(0.3, 0.65), s.between(0.05, 0.11)
    alike, hands = s.maybe(0.6), s.maybe(0.7)
    for side in (1,) if alike else (1, -1):
        up, z = s.between(-1.4, 1.2), s.between(-0.1, 0.25)
        hand = (side * (w * 0.9 + length * math.cos(up)), h * 0.7 + length * math.sin(up), z)
        mirror = int(alike)
        s.limb((side * w * 0.85, h * 0.65, 0), hand, r * 1.2, r, mirror=mirror, blend=k * 0.5, mat=0)
        if alike and hands:
            s.ball(hand, r * 1.3, mirror=1, mat=1)


def _hat(s: Sketch, y: float, r: float, square: bool) -> None:
    kind = s.whole(0, 6)
    if kind == 0:
        s.cylinder((0, y + r * 0.9 + 0.1, 0), s.between(0.1, 0.25), r * 0.9, r * s.between(0.1, 0.9), mat=3)
        if s.maybe(0.6):
            s.cylinder((0, y + r * 0.75, 0), 0.025, r * s.between(1.2, 1.7), mat=3)
    elif kind == 1:  # ears or horns
        tip = (r * s.between(0.6, 1.0), y + r + s.between(0.1, 0.5), 0)
        s.limb((r * 0.6, y + r * 0.8, 0), tip, 0.08, 0.05, mirror=1, mat=1)
    elif kind == 2:
        s.ellipsoid((r * 0.75, y + r * 0.75, 0), (s.between(0.08, 0.16), s.between(0.08, 0.16), 0.06), mirror=1, mat=1)
    elif kind == 3:  # hair
        s.ellipsoid((0, y + r * 0.15, -r * 0.15), (r * 1.12, r * 1.05, r * 1.05), mat=3)
    elif kind == 4 and square:  # antenna
        s.cylinder((0, y + r + 0.08, 0), 0.1, 0.02, mat=3)


def bird(s: Sketch) -> None:
    r, length, tilt = s.between(0.25, 0.42), s.between(0.35, 0.6), s.between(-0.5, 0.5)
    s.ellipsoid((0, 0, 0), (r, r * s.between(0.8, 1.1), length), rot=(tilt * 0.6, 0, 0), mat=0)
    head, z = r * s.between(0.5, 0.85), length * 0.75
    y = r * 0.6 + s.between(0, 0.4)
    s.limb((0, 0.05, length * 0.5), (0, y, z), r * 0.6, head * 0.6, blend=0.12, mat=0)
    s.ball((0, y + head * 0.3, z), head, blend=0.06, mat=1)
    if s.maybe(0.5):  # a duck's beak, else a pointed one
        s.ellipsoid((0, y + head * 0.2, z + head + 0.06), (head * 0.45, head * 0.18, 0.18), mat=2)
    else:
        tip = (0, y + head * 0.15, z + head + s.between(0.1, 0.3))
        s.limb((0, y + head * 0.25, z + head * 0.8), tip, 0.09, 0.02, mat=2)
    s.ball((head * 0.6, y + head * 0.5, z + head * 0.65), 0.04, mirror=1, mat=3)
    if s.maybe(0.3):  # wings spread
        lift = (0, 0, s.between(-0.2, 0.6))
        s.ellipsoid((r + 0.3, 0.15, 0), (0.45, 0.05, 0.22), mirror=1, rot=lift, blend=0.05, mat=1)
    else:
        s.ellipsoid(
            (r * 0.9, 0.03, -0.05), (0.07, r * 0.6, length * 0.75), mirror=1, rot=(0.2, 0, 0), blend=0.02, mat=1
        )
    tail = (0, s.between(0.1, 0.3), -length - 0.1)
    s.tapered_box(tail, (0.14, 0.2, 0.04), 0.02, 1.5, 0.8, rot=(s.between(-1.6, -0.6), 0, 0), mat=0)
    if s.maybe(0.5):
        leg = s.between(0.15, 0.4)
        s.limb((r * 0.4, -r * 0.6, 0), (r * 0.4, -r * 0.8 - leg, 0), 0.04, 0.04, mirror=1, mat=2)
        s.ellipsoid((r * 0.4, -r * 0.8 - leg, 0.08), (0.1, 0.03, 0.15), mirror=1, mat=2)


def fish(s: Sketch) -> None:
    r, length, w = s.between(0.2, 0.45), s.between(0.5, 0.8), s.between(0.12, 0.28)
    s.ellipsoid((0, 0, 0), (w, r, length), mat=0)
    tail = s.between(0.2, 0.4)
    s.prism((0, 0, -length - tail * 0.3), tail * 1.2, tail * 1.6, 0.04, 0.02, frame=TAIL_FIN, mat=1)
    if s.maybe(0.8):
        fin = (0.03, s.between(0.08, 0.25), length * 0.4)
        s.tapered_box((0, r + 0.03, 0), fin, 0.01, 0.8, s.between(0.3, 0.9), mat=1)
    if s.maybe(0.7):
        s.ellipsoid((w + 0.08, -r * 0.3, 0.1), (0.18, 0.03, 0.1), mirror=1, rot=(0, 0, -0.6), mat=1)
    s.ball((w * 0.65, r * 0.25, length * 0.65), 0.06, mirror=1, mat=2)
    if s.maybe(0.35):
        nose = (0, s.between(-0.1, 0.1), length + s.between(0, 0.4))
        s.limb((0, 0, length * 0.7), nose, r * 0.5, 0.06, blend=0.08, mat=0)
