"""Chairs, tables, shelves and cabinets, sofas and beds."""

from __future__ import annotations

from benchmarks.shapes.sketch import Sketch


def chair(s: Sketch) -> None:
    w, d, seat, thick = s.between(0.35, 0.6), s.between(0.35, 0.55), s.between(-0.3, 0.1), s.between(0.03, 0.1)
    leg, r = s.between(0.35, 0.7), s.between(0.03, 0.08)
    s.box((0, seat, 0), (w, thick, d), s.between(0.005, 0.03), mat=0)
    _chair_legs(s, w - r, d - r, seat - thick, leg, r)
    back = s.whole(0, 2) if s.maybe(0.85) else None
    high, lean, bt = s.between(0.3, 0.75), s.between(-0.2, 0.02), s.between(0.03, 0.07)
    if back is not None:
        _chair_back(s, back, w, -d + bt, seat, high, lean, bt)
    if back != 2 and s.maybe(0.35):
        arm = s.between(0.2, 0.35)
        s.box((w - 0.04, seat + arm, 0), (0.06, 0.04, d), 0.02, mirror=1, mat=1)
        s.box((w - 0.04, seat + arm / 2, d - 0.06), (0.04, arm / 2, 0.04), 0.01, mirror=1, mat=1)


def _chair_legs(s: Sketch, x: float, z: float, top: float, leg: float, r: float) -> None:
    kind = s.rng.choice(3, p=(0.5, 0.4, 0.1))
    if kind == 0:
        s.box((x, top - leg / 2, z), (r, leg / 2, r), 0.005, mirror=3, mat=1)
    elif kind == 1:
        splay = s.between(0, 0.18)
        foot = (x + splay * x, top - leg, z + splay * z)
        s.limb((x, top, z), foot, r, r * s.between(0.6, 1.0), mirror=3, mat=1)
    else:  # swivel pedestal on five feet
        s.cylinder((0, top - leg / 2, 0), leg / 2, s.between(0.04, 0.09), mat=1)
        foot = (s.between(0.15, 0.3), top - leg - 0.03, 0)
        s.box(foot, (s.between(0.2, 0.35), 0.04, 0.05), 0.02, repeat=5, mat=1)


def _chair_back(s: Sketch, kind: int, w: float, z: float, seat: float, high: float, lean: float, bt: float) -> None:
    rot = (lean, 0, 0)
    if kind == 0:  # panel
        s.box((0, seat + high, z), (w, high, bt), s.between(0.005, 0.04), rot=rot, mat=0)
    elif kind == 1:  # two posts and slats
        s.box((w - 0.05, seat + high, z), (0.05, high, bt), 0.01, mirror=1, rot=rot, mat=1)
        for f in (0.5, 1.0, 1.6, 1.9):
            if s.maybe(0.8):
                s.box((0, seat + high * f, z - lean * high * (f - 1)), (w, s.between(0.05, 0.1), bt * 0.8), 0.01, mat=0)
    else:  # upright bars under a rail
        s.box((0, seat + 2 * high, z), (w, 0.07, bt * 1.2), 0.02, mat=0)
        for f in (0.0, 0.35, 0.75):
            s.box((w * f + 0.04, seat + high, z), (0.035, high, 0.03), 0.01, mirror=1, mat=1)


def table(s: Sketch) -> None:
    w, d, h, thick = s.between(0.5, 1.0), s.between(0.35, 0.8), s.between(0.25, 0.8), s.between(0.03, 0.09)
    round_top, pedestal, r = s.maybe(0.35), s.maybe(0.3), s.between(0.03, 0.1)
    if round_top:
        s.cylinder((0, h, 0), thick, w * 0.9, r=0.02, mat=0)
    else:
        s.box((0, h, 0), (w, thick, d), s.between(0.005, 0.04), mat=0)
    x, z = (w * 0.5, w * 0.5) if round_top else (w - r - 0.03, d - r - 0.03)
    if pedestal:
        s.cylinder((0, 0, 0), h, s.between(0.06, 0.15), mat=1)
        s.cylinder((0, -h, 0), 0.05, s.between(0.25, 0.5), s.between(0.1, 0.4), r=0.03, mat=1)
    else:
        _table_frame(s, x, z, h, d, w, r, round_top)
    if s.maybe(0.25):  # something on it
        place = (s.between(-0.3, 0.3), h + thick + 0.12, s.between(-0.2, 0.2))
        s.cylinder(place, 0.12, s.between(0.06, 0.15), s.between(0.06, 0.15), mat=3)


def _table_frame(s: Sketch, x: float, z: float, h: float, d: float, w: float, r: float, round_top: bool) -> None:
    if s.maybe(0.5):
        splay = s.between(-0.1, 0.15)
        s.limb((x, h, z), (x + splay, -h, z + splay), r, r * s.between(0.5, 1.0), mirror=3, mat=1)
    else:
        s.box((x, 0, z), (r, h, r), 0.01, mirror=3, mat=1)
    if not round_top and s.maybe(0.5):
        s.box((0, h - 0.12, z), (x, 0.06, 0.02), 0.005, mirror=2, mat=2)
    if s.maybe(0.25):
        s.box((0, -h * 0.4, 0), (x, 0.025, z), 0.005, mat=0)
    if not round_top and s.maybe(0.3):
        s.box((w * 0.55, s.between(-0.1, 0.1), 0), (w * 0.35, h - 0.1, d * 0.9), 0.01, mat=2)


def shelf(s: Sketch) -> None:
    w, h, d = s.between(0.35, 0.9), s.between(0.5, 1.0), s.between(0.15, 0.5)
    s.box((0, 0, 0), (w, h, d), s.between(0.005, 0.03), mat=0)
    wall, kind, rows = 0.05, s.whole(0, 2), s.whole(2, 5)
    step = 2 * h / rows
    if kind == 2:  # two doors
        s.box((w / 2, 0, d), (w / 2 - 0.03, h - 0.04, 0.03), 0.01, mirror=1, mat=1)
        s.box((0.07, 0, d + 0.05), (0.025, s.between(0.05, 0.2), 0.025), 0.01, mirror=1, mat=2)
    else:
        for i in range(rows):
            y, half = -h + step * (i + 0.5), (w - wall, step / 2 - wall / 2)
            if kind == 0:  # open compartments
                s.box((0, y, d * 0.35 + 0.03), (*half, d), 0.005, cut=True, mat=1)
            else:  # drawers with knobs
                s.box((0, y, d), (*half, 0.04), 0.015, mat=1)
                s.ellipsoid((0, y, d + 0.06), (0.06, 0.04, 0.04), mat=2)
    if s.maybe(0.35):
        s.box((w - 0.08, -h - 0.1, d - 0.08), (0.05, 0.12, 0.05), 0.01, mirror=3, mat=2)


def sofa(s: Sketch) -> None:
    w, d, seat, r = s.between(0.5, 0.95), s.between(0.3, 0.5), s.between(0.12, 0.25), s.between(0.03, 0.12)
    s.box((0, -0.3 + seat, 0), (w, seat, d), r, mat=0)
    back = (w, s.between(0.35, 0.6), s.between(0.08, 0.16))
    s.box((0, 0, -d + 0.05), back, r, rot=(s.between(-0.15, 0), 0, 0), mat=0)
    if s.maybe(0.85):
        s.box((w, -0.1, 0), (s.between(0.07, 0.16), s.between(0.2, 0.35), d), r, mirror=1, mat=0)
    if s.maybe(0.6):
        s.box((w / 2, -0.3 + 2 * seat + 0.06, 0.05), (w / 2 - 0.02, 0.09, d * 0.85), 0.06, mirror=1, mat=1)
        if s.maybe(0.7):
            cushion = (w / 2 - 0.04, 0.2, 0.09)
            s.box((w / 2, 0.2, -d + 0.2), cushion, 0.07, mirror=1, rot=(-0.15, 0, 0), mat=1)
    s.cylinder((w * 0.85, -0.4, d * 0.75), 0.1, 0.05, 0.04, mirror=3, mat=2)
    if s.maybe(0.2):
        s.box((0, -0.2, 0.6), (w, 0.14, 0.6), 0.05, mat=2)
