"""Cars, trucks and buses; planes and rockets; ships."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.sketch import Sketch, euler

UPRIGHT = (math.pi / 2, 0, 0)  # turns an axis along y into one along z
SIDEWAYS = (0, 0, math.pi / 2)  # and into one along x


def car(s: Sketch) -> None:
    length, w, h, wheel, r = (
        s.between(0.7, 1.0),
        s.between(0.3, 0.45),
        s.between(0.12, 0.25),
        s.between(0.14, 0.25),
        s.between(0.03, 0.12),
    )
    y, kind = -0.1, s.whole(0, 3)
    s.box((0, y, 0), (w, h, length), r, mat=0)
    if kind <= 1:
        _cabin(s, w, y + h, length)
    elif kind == 2:
        _truck(s, w, y + h, length)
    else:
        _bus(s, w, y, length)
    axle = (w * 0.95, y - h + 0.02, length * s.between(0.5, 0.68))
    s.cylinder(axle, 0.08, wheel, r=0.03, rot=SIDEWAYS, mirror=3, mat=3)
    s.cylinder((axle[0] + 0.06, *axle[1:]), 0.04, wheel * 0.5, r=0.01, rot=SIDEWAYS, mirror=3, mat=4)
    s.cylinder((w * 0.6, y + 0.02, length), 0.03, 0.07, r=0.01, rot=UPRIGHT, mirror=1, mat=4)
    if s.maybe(0.5):
        s.box((0, y - h * 0.6, length), (w, 0.05, 0.06), 0.02, mat=4)


def _cabin(s: Sketch, w: float, top: float, length: float) -> None:
    high, z, half = s.between(0.12, 0.25), s.between(-0.3, 0.05), length * s.between(0.4, 0.65)
    narrow = (s.between(0.7, 0.95), s.between(0.45, 0.85))
    s.tapered_box((0, top + high - 0.04, z), (w * 0.92, high, half), 0.03, *narrow, mat=1)
    if s.maybe(0.4):
        s.box((0, top + high, z), (w * 0.96, high * 0.6, half * 0.62), 0.02, mat=2)
    if s.maybe(0.2):
        s.box((0, top + 0.15, -length * 0.9), (w, 0.02, 0.1), 0.01, mat=0)


def _truck(s: Sketch, w: float, top: float, length: float) -> None:
    s.box((0, top + 0.17, length * 0.62), (w, 0.22, length * 0.3), 0.04, mat=1)
    if s.maybe(0.5):
        s.box((0, top + 0.3, -length * 0.3), (w * 1.05, 0.38, length * 0.62), 0.02, mat=2)
    else:  # a pickup's bed
        s.box((0, top + 0.1, -length * 0.35), (w * 0.85, 0.14, length * 0.5), 0.01, cut=True, mat=2)


def _bus(s: Sketch, w: float, y: float, length: float) -> None:
    s.box((0, y + 0.25, 0), (w * 1.02, 0.3 + s.between(0.12, 0.25) * 0.5, length), 0.06, mat=0)
    s.box((0, y + 0.38, 0), (w * 1.05, 0.1, length * 0.85), 0.01, mat=2)
    s.box((0, y + 0.38, length * 0.95), (w * 0.85, 0.12, length * 0.08), 0.01, mat=2)


def plane(s: Sketch) -> None:
    length, r = s.between(0.8, 1.0), s.between(0.1, 0.2)
    if s.whole(0, 2) == 2:
        _rocket(s, length)
        return
    tail = (0, s.between(-0.02, 0.1), -length)
    s.limb((0, 0, length), tail, r * s.between(0.6, 1.0), r * s.between(0.25, 0.6), mat=0)
    s.ellipsoid((0, 0, 0.2), (r, r, length * 0.8), blend=0.05, mat=0)
    span, sweep = s.between(0.7, 1.0), s.between(0, 0.5)
    place = (span / 2, s.between(-0.1, 0.1), 0.1 - sweep * span / 2)
    chord = s.between(0.14, 0.25)
    frame = _wing_frame(sweep, s.between(-0.1, 0.15))
    s.tapered_box(place, (chord, span / 2, 0.03), 0.01, s.between(0.4, 0.9), 0.8, frame=frame, mirror=1, mat=1)
    frame = _wing_frame(sweep, s.between(0, 0.1))
    s.tapered_box((0.2, 0.05, -length * 0.9), (0.1, 0.22, 0.025), 0.01, 0.6, 0.8, frame=frame, mirror=1, mat=1)
    s.tapered_box((0, 0.2, -length * 0.92), (0.025, 0.2, 0.12), 0.01, 0.8, 0.6, mat=2)
    if s.maybe(0.5):
        s.cylinder((span * 0.4, -0.08, 0.15), 0.15, 0.07, r=0.02, rot=UPRIGHT, mirror=1, mat=3)
    if s.maybe(0.3):
        s.box((0, 0, length + 0.1), (0.35, 0.04, 0.02), 0.01, rot=(0, 0, s.between(0, 3)), mat=3)
    if s.maybe(0.6):
        s.ellipsoid((0, r * 0.8, 0.35), (r * 0.6, r * 0.6, 0.2), mat=4)


def _wing_frame(sweep: float, dihedral: float) -> np.ndarray:
    """A part whose y runs outward along +x, whose x is the chord (z) and whose z points up."""
    base = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    return euler(0, sweep, dihedral) @ base


def _rocket(s: Sketch, length: float) -> None:
    r, q = s.between(0.15, 0.3), np.linspace(0, 1, 10)
    radii = r * np.maximum(1 - q ** s.between(2, 5), 0.02) * (1 + 0.3 * np.sin(q * 3))
    s.revolved((0, 0, 0), length, radii, mat=0)
    fin = (r + 0.08, -length + 0.2, 0)
    s.tapered_box(fin, (0.15, 0.25, 0.025), 0.01, 0.3, 1.0, repeat=s.whole(3, 4), mat=1)
    s.cylinder((0, -length - 0.05, 0), 0.08, r * 0.8, r * 0.6, mat=2)
    s.cylinder((0, 0.2, r), 0.05, 0.1, r=0.02, rot=UPRIGHT, mat=3)


def ship(s: Sketch) -> None:
    length, w, h = s.between(0.7, 1.0), s.between(0.2, 0.4), s.between(0.12, 0.25)
    s.tapered_box((0, -0.3, 0), (w, h, length), 0.03, s.between(1.0, 1.3), s.between(1.0, 1.2), mat=0)
    if s.maybe(0.7):  # bow
        s.prism((0, -0.3, length), w * 1.05, 0.35, h, 0.01, rot=UPRIGHT, mat=0)
    if s.maybe(0.6):
        s.box((0, -0.3 + h, 0), (w * 0.85, 0.08, length * 0.85), 0.01, cut=True, mat=1)
    if s.maybe(0.5):
        s.cylinder((0, 0.3, 0), s.between(0.5, 0.7), 0.03, mat=2)
        if s.maybe(0.6):
            at = (0, 0.35, s.between(-0.1, 0.1))
            s.prism(at, s.between(0.3, 0.5), s.between(0.7, 1.0), 0.03, 0.01, rot=(0, math.pi / 2, 0), mat=3)
        if s.maybe(0.4):
            s.box((0, 0.35, 0.05), (s.between(0.3, 0.5), s.between(0.25, 0.4), 0.03), 0.01, mat=3)
    else:
        house = (w * 0.7, s.between(0.1, 0.2), length * s.between(0.25, 0.45))
        s.box((0, 0, s.between(-0.3, 0.1)), house, 0.02, mat=1)
        if s.maybe(0.6):
            s.box((0, 0.2, s.between(-0.3, 0.1)), (w * 0.5, 0.12, length * 0.22), 0.02, mat=2)
        if s.maybe(0.6):
            s.cylinder((0, 0.35, -0.2), 0.2, 0.08, mat=3)
