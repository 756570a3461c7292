"""Thin and busy things: implements, frames of rods, machines with many small parts, and parts of machines.

Rods are at least as thick as the model's finest cells.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.categories.vehicles import SIDEWAYS, UPRIGHT
from benchmarks.shapes.sketch import Sketch

FLAT = (math.pi / 2, 0, 0)  # turns a ring in xy into one that lies


def implement(s: Sketch) -> None:
    """Hand tools and household implements, upright."""
    kinds = (_scissors, _screwdriver, _fork, _pan, _broom, _shovel, _pick, _saw, _umbrella, _key, _guitar, _brush, _bow)
    kinds[s.whole(0, len(kinds) - 1)](s)


def _handle(s: Sketch, low: float, high: float, r: float, mat: int = 0) -> None:
    s.limb((0, low, 0), (0, high, 0), r, r * s.between(0.8, 1.0), mat=mat)


def _scissors(s: Sketch) -> None:
    spread, r = s.between(0.05, 0.35), s.between(0.14, 0.22)
    for side in (1, -1):
        turned = (0, 0, side * spread)
        tip = (side * 0.9 * math.sin(spread), 0.9 * math.cos(spread), 0.02 * side)
        s.limb((0, 0, 0.02 * side), tip, s.between(0.07, 0.1), 0.03, mat=0)
        low = (-side * 0.6 * math.sin(spread + 0.25), -0.6 * math.cos(spread + 0.25), 0)
        s.limb((0, 0, 0), low, 0.05, 0.045, mat=1)
        s.torus((low[0] * 1.25, low[1] * 1.25, 0), r, s.between(0.035, 0.055), rot=turned, mat=1)
    s.cylinder((0, 0, 0), 0.06, 0.05, rot=UPRIGHT, mat=2)


def _screwdriver(s: Sketch) -> None:
    s.cylinder((0, -0.55, 0), s.between(0.28, 0.4), s.between(0.1, 0.16), s.between(0.07, 0.16), r=0.04, mat=0)
    _handle(s, -0.3, s.between(0.5, 0.8), s.between(0.03, 0.05), mat=1)
    if s.maybe(0.5):
        s.box((0, 0.75, 0), (0.07, 0.1, 0.03), 0.01, mat=1)


def _fork(s: Sketch) -> None:
    teeth, wide = s.whole(2, 4), s.between(0.1, 0.2)
    _handle(s, -0.9, 0.3, s.between(0.035, 0.06))
    s.box((0, 0.35, 0), (wide + 0.03, 0.05, 0.035), 0.02, mat=1)
    for x in np.linspace(-wide, wide, teeth):
        s.limb((x, 0.35, 0), (x, s.between(0.75, 0.9), s.between(-0.02, 0.06)), 0.035, 0.03, mat=1)


def _pan(s: Sketch) -> None:
    r, deep = s.between(0.35, 0.5), s.between(0.06, 0.25)
    s.cylinder((0, 0.35, 0), deep, r * 0.9, r, rot=UPRIGHT, mat=0)
    s.cylinder((0, 0.35, 0.05), deep, r * 0.8, r * 0.9, rot=UPRIGHT, cut=True, blend=0.01, mat=0)
    s.limb((0, 0.35 - r, 0), (0, -0.9, s.between(0, 0.15)), 0.05, s.between(0.04, 0.07), mat=1)


def _broom(s: Sketch) -> None:
    _handle(s, -0.4, 1.1, s.between(0.03, 0.045))
    wide = s.between(0.2, 0.4)
    s.tapered_box(
        (0, -0.65, 0), (wide, s.between(0.2, 0.35), s.between(0.06, 0.1)), 0.02, s.between(0.5, 1.0), 0.8, mat=1
    )


def _shovel(s: Sketch) -> None:
    _handle(s, -0.2, 0.9, s.between(0.035, 0.05))
    s.box((0, 0.95, 0), (s.between(0.08, 0.16), 0.04, 0.04), 0.02, mat=0)
    s.tapered_box((0, -0.5, 0), (s.between(0.2, 0.3), 0.35, 0.04), 0.02, s.between(0.8, 1.1), 1.0, mat=1)
    if s.maybe(0.5):
        s.ellipsoid((0, -0.85, 0), (s.between(0.18, 0.26), 0.2, 0.04), mat=1)


def _pick(s: Sketch) -> None:
    _handle(s, -0.9, 0.7, s.between(0.04, 0.06))
    s.limb((0, 0.65, 0), (s.between(0.5, 0.7), s.between(0.35, 0.6), 0), 0.07, 0.03, mat=1)
    s.limb((0, 0.65, 0), (-s.between(0.3, 0.7), s.between(0.35, 0.7), 0), 0.07, s.between(0.03, 0.06), mat=1)


def _saw(s: Sketch) -> None:
    blade = (s.between(0.12, 0.22), 0.75, 0.03)
    s.tapered_box((0, 0.3, 0), blade, 0.005, s.between(0.3, 0.9), 1.0, mat=1)
    s.torus((0, -0.6, 0), s.between(0.15, 0.2), s.between(0.05, 0.07), mat=0)


def _umbrella(s: Sketch) -> None:
    _handle(s, -0.7, 0.7, 0.03)
    s.torus((0.1, -0.7, 0), 0.1, 0.03, 1.6, rot=(0, 0, math.pi), mat=0)
    if s.maybe(0.5):  # open
        s.cylinder((0, 0.55, 0), s.between(0.15, 0.25), s.between(0.6, 0.85), 0.04, mat=1)
        s.cylinder((0, 0.45, 0), 0.2, s.between(0.6, 0.8), 0.03, cut=True, blend=0.01, mat=1)
        _handle(s, -0.7, 0.7, 0.03)
    else:
        s.limb((0, -0.2, 0), (0, 0.6, 0), s.between(0.07, 0.12), 0.04, mat=1)


def _key(s: Sketch) -> None:
    s.torus((0, 0.6, 0), s.between(0.16, 0.26), s.between(0.045, 0.07), mat=0)
    _handle(s, -0.8, 0.4, s.between(0.04, 0.06))
    for y in np.linspace(-0.75, s.between(-0.6, -0.4), s.whole(1, 3)):
        s.box((s.between(0.1, 0.16), y, 0), (0.1, 0.04, 0.04), 0.01, mat=0)


def _guitar(s: Sketch) -> None:
    big, half = s.between(0.32, 0.42), s.between(0.06, 0.13)
    s.cylinder((0, -0.5, 0), half, big, rot=UPRIGHT, mat=0)
    s.cylinder((0, -0.05, 0), half, big * s.between(0.65, 0.85), rot=UPRIGHT, blend=0.05, mat=0)
    s.box((0, 0.5, half * 0.7), (0.05, 0.6, 0.04), 0.01, mat=1)
    s.box((0, 1.1, half * 0.6), (0.09, 0.13, 0.04), 0.02, mat=2)
    s.cylinder((0, -0.2, half), 0.03, 0.11, rot=UPRIGHT, mat=3)


def _brush(s: Sketch) -> None:
    _handle(s, -0.9, 0.4, s.between(0.04, 0.07))
    s.cylinder((0, 0.5, 0), 0.1, s.between(0.05, 0.1), mat=1)
    s.limb((0, 0.55, 0), (0, 0.85, 0), s.between(0.07, 0.11), 0.03, mat=2)


def _bow(s: Sketch) -> None:
    s.torus((-0.5, 0, 0), 0.9, s.between(0.035, 0.05), s.between(0.7, 1.1), rot=(0, 0, -math.pi / 2), mat=0)
    if s.maybe(0.7):
        s.limb((-0.55, 0, 0), (0.55, 0, 0), 0.03, 0.03, mat=1)
        s.limb((0.5, 0, 0), (0.65, 0, 0), 0.08, 0.03, mat=2)


def frame(s: Sketch) -> None:
    """Furniture and buildings of rods: ladders, fences, cages, tripods, stands, towers."""
    (_ladder, _fence, _cage, _tripod, _candles, _stand, _mast, _trolley)[s.whole(0, 7)](s)


def _ladder(s: Sketch) -> None:
    w, r, lean = s.between(0.2, 0.35), s.between(0.03, 0.05), s.between(0, 0.35)
    s.limb((w, -0.95, lean), (w * s.between(0.6, 1.0), 0.95, 0), r, r, mirror=1, mat=0)
    for y in np.linspace(-0.75, 0.75, s.whole(4, 7)):
        z = lean * (0.95 - y) / 1.9
        s.limb((-w * 0.9, y, z), (w * 0.9, y, z), r * 0.8, r * 0.8, mat=1)
    if s.maybe(0.4):
        s.limb((w, -0.95, -lean - 0.3), (w * 0.7, 0.9, 0), r, r, mirror=1, mat=0)


def _fence(s: Sketch) -> None:
    posts, h, r = s.whole(4, 8), s.between(0.35, 0.6), s.between(0.035, 0.05)
    for x in np.linspace(-0.9, 0.9, posts):
        if s.maybe(0.8):
            s.box((x, 0, 0), (r * s.between(1.0, 1.8), h, r), 0.01, mat=0)
        else:
            s.limb((x, -h, 0), (x, h, 0), r, r, mat=0)
    for y in (-h * 0.5, h * 0.5):
        s.box((0, y, -r), (0.95, r, 0.035), 0.01, mat=1)


def _cage(s: Sketch) -> None:
    r, h, bars = s.between(0.4, 0.6), s.between(0.35, 0.7), s.whole(6, 12)
    s.cylinder((0, -h, 0), 0.05, r * 1.05, mat=0)
    s.limb((r, -h, 0), (r, h * 0.6, 0), 0.03, 0.03, repeat=bars, mat=1)
    s.torus((0, h * 0.6, 0), r, 0.035, rot=FLAT, mat=1)
    s.limb((r, h * 0.6, 0), (0.02, h * 0.6 + r * s.between(0.4, 0.9), 0), 0.03, 0.03, repeat=bars, mat=1)
    if s.maybe(0.6):
        s.ellipsoid((0, -h * 0.5, 0), (r * 0.4, r * 0.35, r * 0.5), mat=2)


def _tripod(s: Sketch) -> None:
    legs, r, y = s.whole(3, 4), s.between(0.03, 0.05), s.between(0.0, 0.4)
    s.limb((0.05, y, 0), (s.between(0.4, 0.7), -0.9, 0), r, r, repeat=legs, mat=0)
    kind = s.whole(0, 3)
    if kind == 0:
        s.limb((-0.3, y + 0.15, -0.1), (s.between(0.4, 0.7), y + s.between(0.2, 0.5), 0.2), 0.1, 0.14, mat=1)
    elif kind == 1:
        s.box((0, y + 0.2, 0), (s.between(0.2, 0.35), 0.18, s.between(0.12, 0.25)), 0.04, mat=1)
        s.cylinder((0, y + 0.2, 0.35), 0.15, 0.12, rot=UPRIGHT, mat=2)
    elif kind == 2:
        s.cylinder((0, y + 0.06, 0), s.between(0.04, 0.08), s.between(0.3, 0.5), mat=1)
    else:
        s.box((0, y + 0.35, 0.03), (s.between(0.4, 0.6), 0.5, 0.035), 0.01, rot=(-0.2, 0, 0), mat=1)


def _candles(s: Sketch) -> None:
    arms, r, y = s.whole(2, 6), s.between(0.35, 0.55), s.between(-0.1, 0.3)
    s.cylinder((0, -0.85, 0), 0.04, s.between(0.25, 0.4), s.between(0.1, 0.3), mat=0)
    s.limb((0, -0.85, 0), (0, 0.5, 0), 0.05, 0.035, mat=0)
    s.limb((0, y - 0.25, 0), (r, y, 0), 0.035, 0.03, repeat=arms, mat=0)
    s.cylinder((r, y + 0.05, 0), 0.04, 0.05, 0.1, repeat=arms, mat=0)
    s.cylinder((r, y + 0.25, 0), s.between(0.1, 0.25), 0.045, repeat=arms, mat=1)
    if s.maybe(0.6):
        s.cylinder((0, 0.7, 0), 0.25, 0.045, mat=1)


def _stand(s: Sketch) -> None:
    s.limb((0, -0.9, 0), (0, 0.85, 0), s.between(0.035, 0.05), 0.035, mat=0)
    s.limb((0.05, -0.7, 0), (s.between(0.3, 0.45), -0.9, 0), 0.035, 0.035, repeat=s.whole(3, 5), mat=0)
    for y in np.linspace(0.8, s.between(0.4, 0.7), s.whole(1, 2)):
        s.limb((0.03, y - 0.1, 0), (s.between(0.2, 0.35), y + 0.1, 0), 0.03, 0.035, repeat=s.whole(3, 6), mat=1)
    if s.maybe(0.4):
        s.tapered_box((0.15, 0.2, 0), (0.22, 0.45, 0.08), 0.03, 0.6, 1.0, mat=2)  # a coat on it


def _mast(s: Sketch) -> None:
    low, high, h = s.between(0.3, 0.45), s.between(0.05, 0.15), s.between(0.8, 1.0)
    s.limb((low, -h, low), (high, h * 0.7, high), 0.04, 0.03, mirror=3, mat=0)
    levels = s.whole(2, 4)
    for i in range(levels):
        at = (i + 0.5) / levels
        half, y = low + (high - low) * at, -h + 1.7 * h * at
        s.box((0, y, half), (half, 0.03, 0.03), 0.01, mirror=2, mat=1)
        s.box((half, y, 0), (0.03, 0.03, half), 0.01, mirror=1, mat=1)
        if s.maybe(0.6):
            s.limb((-half, y, half), (half * 0.9, y + 1.5 * h / levels, half * 0.9), 0.025, 0.025, mirror=2, mat=1)
    if s.maybe(0.6):
        s.limb((0, h * 0.6, 0), (0, h * 1.2, 0), 0.04, 0.03, mat=0)
    if s.maybe(0.4):  # a wind wheel
        s.box((0, h * 0.8 + 0.3, 0.15), (0.05, 0.3, 0.03), 0.01, rot=(0, 0, s.between(0, 3)), mat=2)
        s.box((0, h * 0.8 + 0.3, 0.15), (0.3, 0.05, 0.03), 0.01, mat=2)


def _trolley(s: Sketch) -> None:
    w, d, h, wheel = s.between(0.25, 0.4), s.between(0.35, 0.6), s.between(0.2, 0.4), s.between(0.08, 0.14)
    s.box((0, 0, 0), (w, h, d), 0.02, mat=0)
    s.box((0, 0.08, 0), (w - 0.05, h, d - 0.05), 0.02, cut=True, blend=0.01, mat=0)
    for z in np.linspace(-d * 0.7, d * 0.7, s.whole(2, 4)):
        s.box((0, 0, z), (w * 2, h * 0.7, 0.04), 0.02, cut=True, blend=0.01, mat=0)
    s.limb((w * 0.9, -h, d * 0.9), (w * 0.9, -h - 0.3, d * 0.9), 0.035, 0.03, mirror=3, mat=1)
    s.cylinder((w * 0.9, -h - 0.35, d * 0.9), 0.035, wheel, rot=SIDEWAYS, mirror=3, mat=2)
    s.limb((w, h, -d), (w, h + s.between(0.1, 0.4), -d - 0.2), 0.035, 0.035, mirror=1, mat=1)
    s.limb((-w, h + 0.25, -d - 0.15), (w, h + 0.25, -d - 0.15), 0.035, 0.035, mat=1)


def machine(s: Sketch) -> None:
    """A body with many small things on it: pipes, wheels, knobs, windows, aerials."""
    w, h, d = s.between(0.35, 0.7), s.between(0.25, 0.55), s.between(0.3, 0.7)
    kind = s.whole(0, 2)
    if kind == 0:
        s.box((0, 0, 0), (w, h, d), s.between(0.01, 0.1), mat=0)
    elif kind == 1:
        s.cylinder((0, 0, 0), d, h, rot=UPRIGHT, r=0.04, mat=0)
    else:
        s.ellipsoid((0, 0, 0), (w, h, d), mat=0)
    for _ in range(s.whole(6, 16)):
        _attachment(s, w, h, d)
    base = s.whole(0, 3)
    if base == 0:
        s.limb((w * 0.7, -h * 0.8, d * 0.7), (w * 0.8, -h - s.between(0.1, 0.4), d * 0.8), 0.05, 0.04, mirror=3, mat=3)
    elif base == 1:
        s.cylinder((w * 0.9, -h, d * 0.6), s.between(0.04, 0.08), s.between(0.12, 0.25), rot=SIDEWAYS, mirror=3, mat=4)
    elif base == 2:
        s.box((0, -h, 0), (w * 1.1, 0.06, d * 1.1), 0.02, mat=3)


def _attachment(s: Sketch, w: float, h: float, d: float) -> None:
    kind, mirror, mat = s.whole(0, 8), s.whole(0, 1), s.whole(1, 6)
    x, y, z = s.between(-0.9, 0.9) * w, s.between(-0.8, 0.8) * h, s.between(-0.9, 0.9) * d
    size = s.between(0.05, 0.16)
    how = {"mirror": mirror, "mat": mat}
    if kind == 0:  # a chimney or a turret
        s.cylinder((x, h * 0.9, z), s.between(0.1, 0.3), size, size * s.between(0.7, 1.2), **how)
    elif kind == 1:  # an aerial
        end = (x + s.between(-0.1, 0.1), h + s.between(0.3, 0.6), z)
        s.limb((x, h * 0.8, z), end, 0.03, 0.025, **how)
        if s.maybe(0.5):
            s.ball(end, 0.06, **how)
    elif kind == 2:  # a knob or a lens
        s.cylinder((x, y, d), s.between(0.03, 0.12), size, rot=UPRIGHT, **how)
    elif kind == 3:  # a window or a panel
        s.box((x, y, d), (size * s.between(1.0, 2.0), size, 0.03), 0.01, **how)
    elif kind == 4:  # a pipe
        s.torus((w * 0.9, y, z), s.between(0.1, 0.2), s.between(0.03, 0.05), rot=(0, s.between(0, 1.6), 0), **how)
    elif kind == 5:  # an arm
        hand = (w + s.between(0.1, 0.4), y + s.between(-0.3, 0.3), z + s.between(0, 0.4))
        s.limb((w * 0.8, y, z), hand, s.between(0.04, 0.08), 0.04, **how)
        s.box(hand, (size * 0.7, size * 0.7, size * 0.7), 0.02, **how)
    elif kind == 6:  # a fin
        s.tapered_box((x, h, z), (0.035, s.between(0.1, 0.25), size * 1.5), 0.01, 1.0, s.between(0.3, 1.0), **how)
    elif kind == 7:  # a hole
        s.cylinder((x, y, d), 0.15, size, rot=UPRIGHT, cut=True, blend=0.01, **how)
    else:
        s.box((w, y, z), (s.between(0.05, 0.2), size, size * s.between(0.6, 2.0)), 0.02, **how)


def fitting(s: Sketch) -> None:
    """Parts as they are drilled and milled: plates, brackets, flanges, tubes, blocks with slots."""
    (_bracket, _flange, _tube, _block, _plate, _link)[s.whole(0, 5)](s)


def _bracket(s: Sketch) -> None:
    w, a, b, t = s.between(0.25, 0.6), s.between(0.4, 0.9), s.between(0.4, 0.9), s.between(0.05, 0.14)
    s.box((0, 0, 0), (w, t, a), 0.01, mat=0)
    s.box((0, b - t, -a + t), (w, b, t), 0.01, mat=0)
    if s.maybe(0.5):
        s.prism((0, 0, -a + t), min(a, b), min(a, b), t, rot=(0, math.pi / 2, 0), mat=0)
    hole, x = s.between(0.06, 0.14), w * s.between(0.0, 0.6)
    s.cylinder((x, 0, a * 0.5), 0.3, hole, mirror=1, cut=True, blend=0.005, mat=1)
    s.cylinder((x, b * 1.2, -a), 0.4, hole, rot=UPRIGHT, mirror=1, cut=True, blend=0.005, mat=1)


def _flange(s: Sketch) -> None:
    r, t, neck = s.between(0.5, 0.8), s.between(0.06, 0.15), s.between(0.2, 0.4)
    long = s.between(0.2, 0.7)
    s.cylinder((0, 0, 0), t, r, mat=0)
    s.cylinder((0, long, 0), long, neck, s.between(0.7, 1.0) * neck, mat=0)
    if s.maybe(0.4):
        s.cylinder((0, 2 * long, 0), t, r * 0.8, mat=0)
    s.cylinder((0, 0, 0), 3.0, neck * s.between(0.4, 0.75), cut=True, blend=0.005, mat=1)
    s.cylinder(((r + neck) / 2, 0, 0), 0.4, s.between(0.05, 0.1), repeat=s.whole(3, 8), cut=True, blend=0.005, mat=1)


def _tube(s: Sketch) -> None:
    r, wall = s.between(0.15, 0.4), s.between(0.04, 0.1)
    branches = s.whole(1, 3)
    ways = [SIDEWAYS, (0, 0, 0), UPRIGHT][:branches]
    half = s.between(0.7, 1.0)
    for way in ways:
        s.cylinder((0, 0, 0), half, r, rot=way, mat=0)
        if s.maybe(0.5):
            for end in (half, -half):
                at = {SIDEWAYS: (end, 0, 0), UPRIGHT: (0, 0, end)}.get(way, (0, end, 0))
                s.cylinder(at, 0.07, r * 1.35, rot=way, mat=1)
    for way in ways:
        s.cylinder((0, 0, 0), half + 0.3, r - wall, rot=way, cut=True, blend=0.005, mat=2)


def _block(s: Sketch) -> None:
    w, h, d = (s.between(0.3, 0.8) for _ in range(3))
    s.box((0, 0, 0), (w, h, d), s.between(0.0, 0.05), mat=0)
    for _ in range(s.whole(1, 4)):
        kind, at = s.whole(0, 2), [s.between(-0.6, 0.6) * e for e in (w, h, d)]
        if kind == 0:  # a slot along z
            s.box(
                (at[0], h, 0), (s.between(0.06, 0.2), s.between(0.1, 0.8) * h, 2.0), 0.01, cut=True, blend=0.005, mat=1
            )
        elif kind == 1:  # a step
            s.box(
                (w, h, at[2]),
                (s.between(0.2, 0.9) * w, s.between(0.2, 0.9) * h, 1.5),
                0.01,
                cut=True,
                blend=0.005,
                mat=1,
            )
        else:
            turned = [SIDEWAYS, UPRIGHT, (0, 0, 0)][s.whole(0, 2)]
            s.cylinder(at, 2.0, s.between(0.08, 0.5) * min(w, h, d), rot=turned, cut=True, blend=0.005, mat=2)
    if s.maybe(0.4):
        s.cylinder((0, h, 0), s.between(0.1, 0.4), s.between(0.2, 0.7) * min(w, d), mat=3)


def _plate(s: Sketch) -> None:
    t, nx, ny = s.between(0.04, 0.12), s.whole(2, 4), s.whole(1, 3)
    w, h = s.between(0.6, 0.95), s.between(0.3, 0.95)
    s.box((0, 0, 0), (w, h, t), s.between(0, 0.04), mat=0)
    hole, square = s.between(0.06, 0.12), s.maybe(0.4)
    for x in np.linspace(-0.75 * w, 0.75 * w, nx):
        for y in np.linspace(-0.7 * h, 0.7 * h, ny) if ny > 1 else (0.0,):
            if square:
                s.box((x, y, 0), (hole, hole, 0.4), 0.01, cut=True, blend=0.005, mat=1)
            else:
                s.cylinder((x, y, 0), 0.4, hole, rot=UPRIGHT, cut=True, blend=0.005, mat=1)
    if s.maybe(0.4):
        s.box((0, -h, 0.15), (w, t, 0.2), 0.01, mat=0)


def _link(s: Sketch) -> None:
    a, b, t = s.between(0.2, 0.35), s.between(0.15, 0.3), s.between(0.06, 0.15)
    s.cylinder((0, 0.6, 0), t, a, rot=UPRIGHT, mat=0)
    s.cylinder((0, -0.6, 0), t, b, rot=UPRIGHT, mat=0)
    s.tapered_box((0, 0, 0), (b * 0.7, 0.6, t * s.between(0.5, 1.0)), 0.02, a / b * 0.9, 1.0, blend=0.03, mat=0)
    s.cylinder((0, 0.6, 0), 0.5, a * s.between(0.4, 0.7), rot=UPRIGHT, cut=True, blend=0.005, mat=1)
    s.cylinder((0, -0.6, 0), 0.5, b * s.between(0.4, 0.7), rot=UPRIGHT, cut=True, blend=0.005, mat=1)
