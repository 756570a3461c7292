"""Tools, and devices: laptop, screen, phone, camera, lamp, bicycle."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.categories.vehicles import SIDEWAYS, UPRIGHT
from benchmarks.shapes.sketch import Sketch


def tool(s: Sketch) -> None:
    kind, length, r = s.whole(0, 5), s.between(0.7, 1.0), s.between(0.05, 0.1)
    if kind <= 3:
        s.limb((0, -length, 0), (0, length * 0.6, 0), r, r * s.between(0.7, 1.0), mat=0)
    (_hammer, _axe, _spoon, _sword, _wrench, _drill)[kind](s, length)


def _hammer(s: Sketch, length: float) -> None:
    s.box((0, length * 0.7, 0), (s.between(0.25, 0.45), s.between(0.1, 0.2), s.between(0.1, 0.18)), 0.03, mat=1)
    if s.maybe(0.5):
        face = (s.between(0.3, 0.5), length * 0.7, 0)
        s.cylinder(face, 0.1, s.between(0.12, 0.2), r=0.02, rot=SIDEWAYS, mat=1)


def _axe(s: Sketch, length: float) -> None:
    turned = (0, 0, -math.pi / 2)
    s.tapered_box((0.2, length * 0.6, 0), (0.2, 0.22, 0.05), 0.01, 1.0, 0.3, rot=turned, mat=1)
    amplitudes, phases = s.rng.uniform(0, 0.05, 5), s.rng.uniform(0, 6, 5)
    at = (s.between(0.15, 0.25), length * 0.55, 0)
    s.silhouette(at, s.between(0.25, 0.38), 0.05, True, list(amplitudes), list(phases), mat=1)


def _spoon(s: Sketch, length: float) -> None:
    bowl = (s.between(0.15, 0.35), s.between(0.25, 0.4), s.between(0.05, 0.12))
    s.ellipsoid((0, length * 0.75, 0), bowl, blend=0.05, mat=1)
    if s.maybe(0.5):
        s.ellipsoid((0, length * 0.75, 0.1), (0.14, 0.22, 0.09), cut=True, blend=0.02, mat=1)


def _sword(s: Sketch, length: float) -> None:
    blade = (s.between(0.06, 0.12), length, 0.035)
    s.tapered_box((0, length * 0.3, 0), blade, 0.01, s.between(0.1, 0.8), 0.5, mat=1)
    s.box((0, -length * 0.6, 0), (s.between(0.18, 0.35), 0.05, 0.07), 0.02, mat=2)
    s.ball((0, -length, 0), 0.1, mat=2)


def _wrench(s: Sketch, length: float) -> None:
    opening = math.pi if s.maybe(0.5) else s.between(2.2, 2.9)
    at = (0, length * 0.6, 0)
    s.torus(at, s.between(0.2, 0.35), s.between(0.05, 0.09), opening, rot=(0, 0, math.pi), mat=1)
    s.box((0, -length * 0.3, 0), (s.between(0.05, 0.1), length * 0.7, 0.06), 0.02, mat=0)
    if s.maybe(0.6):  # a key's bit
        s.box((0.12, -length * 0.85, 0), (0.12, 0.05, 0.05), 0.01, mat=0)
    if s.maybe(0.6):
        s.box((0.1, -length * 0.65, 0), (0.1, 0.05, 0.05), 0.01, mat=0)


def _drill(s: Sketch, length: float) -> None:
    s.box((0.1, 0.2, 0), (s.between(0.5, 0.7), s.between(0.12, 0.2), s.between(0.08, 0.15)), 0.03, mat=0)
    s.box((-0.3, -0.2, 0), (0.12, s.between(0.3, 0.4), 0.09), 0.04, rot=(0, 0, s.between(-0.3, 0.1)), mat=1)
    s.cylinder((0.8, 0.22, 0), s.between(0.1, 0.3), s.between(0.05, 0.1), rot=SIDEWAYS, mat=2)
    s.torus((-0.05, 0, 0), 0.13, 0.03, mat=2)


def device(s: Sketch) -> None:
    w, h = s.between(0.5, 0.9), s.between(0.35, 0.6)
    (_laptop, _screen, _phone, _camera, _lamp, _bicycle)[s.whole(0, 5)](s, w, h)


def _laptop(s: Sketch, w: float, h: float) -> None:
    lean = s.between(-0.6, 0.2)
    y, z, rot = -0.4 + h * math.cos(lean), -h + h * math.sin(lean), (lean, 0, 0)
    s.box((0, -0.4, 0), (w, 0.04, h), 0.02, mat=0)
    s.box((0, y, z), (w, h, 0.035), 0.02, rot=rot, mat=0)
    s.box((0, y, z + 0.03), (w * 0.92, h * 0.88, 0.02), 0.005, rot=rot, mat=1)


def _screen(s: Sketch, w: float, h: float) -> None:
    s.box((0, 0.2, 0), (w, h, s.between(0.04, 0.2)), 0.03, mat=0)
    s.box((0, -0.3, 0), (0.08, 0.3, 0.06), 0.01, mat=2)
    s.box((0, -0.6, 0), (s.between(0.2, 0.45), 0.03, s.between(0.15, 0.3)), 0.01, mat=2)


def _phone(s: Sketch, w: float, h: float) -> None:
    s.box((0, 0, 0), (h, w, s.between(0.05, 0.25)), s.between(0.01, 0.05), mat=0)
    if s.maybe(0.3):
        s.box((0, 0, 0.05), (h * 0.88, w * 0.88, 0.2), 0.01, mat=1)


def _camera(s: Sketch, w: float, h: float) -> None:
    s.box((0, 0, 0), (w, h * 0.8, s.between(0.15, 0.3)), s.between(0.02, 0.08), mat=0)
    lens = (s.between(-0.2, 0.2), 0, 0.35)
    s.cylinder(lens, s.between(0.15, 0.35), s.between(0.2, 0.35), s.between(0.2, 0.35), r=0.02, rot=UPRIGHT, mat=1)
    s.box((s.between(-0.3, 0.3), h * 0.85, 0), (0.2, 0.1, 0.15), 0.02, mat=0)


def _lamp(s: Sketch, w: float, h: float) -> None:
    s.cylinder((0, -0.9, 0), 0.04, s.between(0.25, 0.45), r=0.02, mat=0)
    s.cylinder((0, -0.3, 0), 0.6, 0.04, mat=0)
    s.cylinder((0, 0.4, 0), s.between(0.2, 0.35), s.between(0.35, 0.6), s.between(0.15, 0.4), mat=1)


def _bicycle(s: Sketch, w: float, h: float) -> None:
    fork, seat, pedal, back = np.array([[0, 0.5, 0.4], [0, 0.45, -0.3], [0, -0.05, 0], [0, 0, -0.6]])
    s.torus((0, 0, 0.6), s.between(0.3, 0.42), 0.05, rot=(0, math.pi / 2, 0), mirror=2, mat=0)
    for a, b in (((0, 0, 0.6), fork), (back, seat), (seat, fork), (back, pedal), (pedal, fork)):
        s.limb(a, b, 0.04, 0.04, mat=1)
    s.ellipsoid((0, 0.52, -0.32), (0.1, 0.05, 0.18), mat=2)
    s.limb((-0.25, 0.6, 0.4), (0.25, 0.6, 0.4), 0.035, 0.035, mat=2)
