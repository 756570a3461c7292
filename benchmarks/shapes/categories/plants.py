"""Trees, palms and cacti; mushrooms; fruit."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.categories.vehicles import UPRIGHT
from benchmarks.shapes.sketch import Sketch


def tree(s: Sketch) -> None:
    half, r = s.between(0.25, 0.6), s.between(0.05, 0.14)
    y = -1 + 2 * half
    s.limb((0, -1, 0), (s.between(-0.08, 0.08), y, s.between(-0.08, 0.08)), r * s.between(1.0, 1.5), r, mat=0)
    (_leafy, _conifer, _palm, _cactus)[s.whole(0, 3)](s, y)
    if s.maybe(0.35):  # in a pot
        s.cylinder((0, -1.05, 0), s.between(0.12, 0.25), s.between(0.18, 0.3), s.between(0.25, 0.4), r=0.02, mat=3)


def _leafy(s: Sketch, y: float) -> None:
    r = s.between(0.35, 0.65)
    s.ellipsoid((0, y + r * 0.5, 0), (r, r * s.between(0.7, 1.2), r), mat=1)
    for _ in range(6):
        if s.maybe(0.7):
            angle, size = s.between(0, 2 * math.pi), r * s.between(0.45, 0.75)
            at = (r * 0.8 * math.cos(angle), y + r * s.between(0, 1.1), r * 0.8 * math.sin(angle))
            s.ball(at, size, blend=0.05, mat=1)


def _conifer(s: Sketch, y: float) -> None:
    r, h = s.between(0.35, 0.65), s.between(0.2, 0.35)
    for i in range(s.whole(1, 4)):
        s.cylinder((0, y + h * 0.8 + i * h * 1.1, 0), h, r * (1 - 0.2 * i), 0.02, r=0.01, mat=1)


def _palm(s: Sketch, y: float) -> None:
    droop = (0, 0, s.between(-0.5, 0.6))
    leaf = (0.36, 0.04, s.between(0.08, 0.14))
    s.ellipsoid((0.32, y + 0.02, 0), leaf, rot=droop, repeat=s.whole(4, 7), mat=1)
    s.ball((0, y + 0.03, 0), s.between(0.08, 0.18), mat=2)


def _cactus(s: Sketch, y: float) -> None:
    r = s.between(0.14, 0.25)
    s.limb((0, -1, 0), (0, y + 0.4, 0), r, r, mat=1)
    for side in (1, -1):
        if s.maybe(0.75):
            at, x = s.between(-0.5, 0.1), side * (r + s.between(0.15, 0.3))
            s.limb((0, at, 0), (x, at + 0.05, 0), r * 0.6, r * 0.55, blend=0.05, mat=1)
            s.limb((x, at + 0.05, 0), (x, at + s.between(0.3, 0.6), 0), r * 0.55, r * 0.5, blend=0.05, mat=1)


def mushroom(s: Sketch) -> None:
    h, r = s.between(0.3, 0.6), s.between(0.1, 0.25)
    s.limb((0, -h, 0), (s.between(-0.1, 0.1), h, 0), r * s.between(1.0, 1.5), r * s.between(0.7, 1.0), mat=0)
    wide, high = s.between(0.4, 0.75), s.between(0.2, 0.55)
    s.ellipsoid((0, h, 0), (wide, high, wide), mat=1)
    if s.maybe(0.7):
        under = (wide * 0.95, high * 0.65, wide * 0.95)
        s.ellipsoid((0, h - high * 0.6, 0), under, cut=True, blend=0.02, mat=2)
    s.limb((0, -h, 0), (0, h + high * 0.2, 0), r, r * 0.8, mat=0)
    for _ in range(4):
        around, up = s.between(0, 2 * math.pi), s.between(0.3, 1.1)
        flat = wide * math.cos(up)
        if s.maybe(0.5):
            dot = (flat * math.cos(around), h + high * math.sin(up), flat * math.sin(around))
            s.ball(dot, s.between(0.05, 0.12), mat=3)


def fruit(s: Sketch) -> None:
    r = s.between(0.5, 0.75)
    if s.maybe(0.5):
        q = np.linspace(0, math.pi, 10)
        pear = s.between(-0.25, 0.25)
        radii = r * np.sin(np.clip(q, 0.15, math.pi - 0.15)) * (1 + pear * np.cos(q))
        s.revolved((0, 0, 0), s.between(0.4, 0.9), radii, mat=0)
    else:
        s.ellipsoid((0, 0, 0), (r, s.between(0.35, 0.9), r * s.between(0.8, 1.0)), mat=0)
    if s.maybe(0.8):
        s.limb((0, 0.4, 0), (s.between(-0.15, 0.15), s.between(0.7, 1.1), 0), 0.05, 0.04, mat=1)
    if s.maybe(0.5):
        s.ellipsoid((0.18, 0.85, 0), (0.2, 0.03, 0.1), rot=(0, 0, s.between(-0.3, 0.6)), mat=2)
    if s.maybe(0.25):
        s.star((0, 0.6, 0), 0.3, 5, 2.5, 0.03, rot=UPRIGHT, mat=2)
