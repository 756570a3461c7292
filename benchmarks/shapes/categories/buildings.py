"""Houses, towers and castles."""

from __future__ import annotations

import math

from benchmarks.shapes.sketch import Sketch


def house(s: Sketch) -> None:
    w, h, d = s.between(0.4, 0.8), s.between(0.25, 0.6), s.between(0.4, 0.8)
    roof, over, kind = s.between(0.3, 0.7), s.between(0, 0.12), s.whole(0, 3)
    s.box((0, 0, 0), (w, h, d), 0.005, mat=0)
    _roof(s, kind, w + over, d + over, h, roof)
    if kind < 3 and s.maybe(0.5):
        chimney = (w * s.between(-0.6, 0.6), h + roof * 0.7, d * s.between(-0.4, 0.1))
        s.box(chimney, (0.08, roof * 0.45, 0.08), 0.005, mat=2)
    if s.maybe(0.35):
        _wing(s, w, h, d)
    else:
        s.box((w * s.between(-0.5, 0.5), -h + 0.2, d + 0.01), (0.1, 0.2, 0.03), 0.01, mat=3)
        s.box((w * 0.55, s.between(-0.1, 0.1), d), (0.12, 0.12, 0.03), 0.005, mirror=1, mat=4)
        if h > 0.45:
            s.box((w * 0.5, h * 0.7, d), (0.1, 0.1, 0.03), 0.005, mirror=1, mat=4)
    if s.maybe(0.7):
        s.box((w, 0, d * 0.45), (0.03, 0.12, 0.12), 0.005, mirror=3, mat=4)
    if s.maybe(0.3):
        s.box((0, -h, 0), (w + 0.15, 0.05, d + 0.15), 0.01, mat=5)


def _roof(s: Sketch, kind: int, w: float, d: float, h: float, roof: float) -> None:
    at = (0, h + roof / 2 - 0.02, 0)
    if kind <= 1 and s.maybe(0.5):
        s.prism(at, w, roof, d, 0.01, mat=1)
    elif kind <= 1:
        s.prism(at, d, roof, w, 0.01, rot=(0, math.pi / 2, 0), mat=1)
    elif kind == 2:
        top = (s.between(0, 0.4), s.between(0, 0.4))
        s.tapered_box(at, (w, roof / 2, d), 0.005, *top, mat=1)
    else:
        s.box((0, h + 0.04, 0), (w, 0.05, d), 0.01, mat=1)


def _wing(s: Sketch, w: float, h: float, d: float) -> None:
    half, high, x = s.between(0.25, 0.5), h * s.between(0.5, 1.0), w * s.between(-1, 1)
    s.box((x, -h + high, d + 0.1), (half * 0.8, high, 0.35), 0.005, mat=0)
    s.prism((x, -h + 2 * high + 0.15, d + 0.15), half * 0.9, 0.33, 0.4, 0.005, mat=1)


def tower(s: Sketch) -> None:
    r, square, y, taper = s.between(0.2, 0.45), s.maybe(0.4), -1.0, s.between(0.75, 1.0)
    for level in range(s.whole(1, 4)):
        h = s.between(0.15, 0.5)
        ledge = s.maybe(0.5)
        if square:
            s.tapered_box((0, y + h, 0), (r, h, r), 0.01, taper, taper, mat=level % 2)
            if ledge:
                s.box((0, y + 2 * h, 0), (r * 1.1, 0.05, r * 1.1), 0.01, mat=2)
        else:
            s.cylinder((0, y + h, 0), h, r, r * taper, r=0.01, mat=level % 2)
            if ledge:
                s.cylinder((0, y + 2 * h, 0), 0.05, r * 1.15, r=0.01, mat=2)
        y += 2 * h
        r *= taper * s.between(0.75, 1.0)
    _spire(s, s.whole(0, 3), square, y, r)
    if s.maybe(0.3):
        s.cylinder((0, y + 0.3, 0), 0.4, 0.03, 0.01, mat=3)
    if s.maybe(0.5):
        s.box((0, -0.8, r + 0.1), (0.1, 0.18, 0.15), 0.01, mat=4)
    if s.maybe(0.25):  # a curtain wall with four corner towers
        half, h = s.between(0.6, 0.9), s.between(0.3, 0.5)
        s.box((0, -1 + h * 0.7, 0), (half, h * 0.7, half), 0.01, mat=1)
        s.cylinder((half, -1 + h, half), h, 0.18, mirror=3, mat=0)
        s.cylinder((half, -1 + 2 * h + 0.15, half), 0.16, 0.22, 0.01, r=0.005, mirror=3, mat=3)


def _spire(s: Sketch, kind: int, square: bool, y: float, r: float) -> None:
    h = s.between(0.2, 0.5)
    if kind == 0 and square:
        s.tapered_box((0, y + h, 0), (r * 1.2, h, r * 1.2), 0.005, 0.02, 0.02, mat=3)
    elif kind == 0:
        s.cylinder((0, y + h, 0), h, r * 1.3, 0.01, r=0.005, mat=3)
    elif kind == 1:
        s.ellipsoid((0, y, 0), (r, r * s.between(0.8, 1.5), r), mat=3)
    elif kind == 2:
        s.box((r * 0.95, y + 0.08, 0), (0.06, 0.1, 0.08), 0.005, repeat=s.whole(5, 8), mat=0)
