"""Shapes without a name: random solids, smooth blobs, silhouettes, stars and gears."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.shapes.categories.vehicles import UPRIGHT
from benchmarks.shapes.sketch import Sketch


def solids(s: Sketch) -> None:
    """Two to eight random primitives, one in five subtracted."""
    mirror = 0 if s.maybe(0.5) else s.whole(1, 3)
    for i in range(s.whole(2, 8)):
        cut = i > 0 and s.maybe(0.2)
        blend = s.between(0.01, 0.08) if cut or s.maybe(0.25) else 0.0
        how: dict[str, Any] = {"rot": _turn(s), "cut": cut, "blend": blend, "mirror": mirror, "mat": s.whole(0, 5)}
        at = (0.0, 0.0, 0.0) if i == 0 else tuple(s.rng.uniform(-0.55, 0.55, 3))
        _random_part(s, at, how)


def blobs(s: Sketch) -> None:
    """Two to eight ellipsoids and limbs, all blended."""
    mirror = 0 if s.maybe(0.5) else s.whole(1, 3)
    for i in range(s.whole(2, 8)):
        how: dict[str, Any] = {"rot": _turn(s), "blend": s.between(0.03, 0.25), "mirror": mirror, "mat": s.whole(0, 5)}
        at = np.zeros(3) if i == 0 else s.rng.uniform(-0.55, 0.55, 3)
        a, b, c = s.rng.uniform(0.12, 0.55, 3)
        if s.maybe(0.5):
            s.ellipsoid(at, (a, b, c), **how)
        else:
            from benchmarks.shapes.primitives import LIMB

            s.add(LIMB, at, [a + 0.1, b * 0.6, c * 0.5], a + 0.1 + max(b * 0.6, c * 0.5), **how)


def _turn(s: Sketch) -> tuple[float, float, float]:
    if s.maybe(0.3):
        return (0.0, 0.0, 0.0)
    angles = [s.whole(-2, 2) * math.pi / 4 if s.maybe(0.6) else s.between(-math.pi, math.pi) for _ in range(3)]
    return (angles[0], angles[1], angles[2])


def _random_part(s: Sketch, at: tuple[float, ...], how: dict[str, Any]) -> None:
    a, b, c = s.rng.uniform(0.12, 0.55, 3)
    r = min(s.between(0, 0.1), 0.9 * min(a, b, c))
    kind = s.whole(0, 9)
    if kind in (0, 8):
        s.box(at, (a, b, c), r, **how)
    elif kind == 1:
        s.ellipsoid(at, (a, b, c), **how)
    elif kind in (2, 9):
        s.cylinder(at, a, b, b if s.maybe(0.5) else c * 0.9, r * 0.5, **how)
    elif kind == 3:
        opening = math.pi if s.maybe(0.5) else s.between(1.0, 2.8)
        s.torus(at, max(a, 0.2), b * 0.3, opening, **how)
    elif kind == 4:
        along = np.asarray(at) + np.array([0, a + 0.1, 0])
        how = {key: value for key, value in how.items() if key != "rot"}  # a limb's ends fix its direction
        s.limb(at, along, b * 0.6, c * 0.5, **how)
    elif kind == 5:
        s.prism(at, a, b * 1.5, c, 0.01, **how)
    elif kind == 6:
        s.star(at, a, s.whole(3, 9), s.between(2.0, 3.0), c * 0.6, 0.015, **how)
    else:
        s.tapered_box(at, (a, b, c), r * 0.5, s.between(0.1, 1.2), s.between(0.1, 1.2), **how)


def silhouettes(s: Sketch) -> None:
    kind = s.whole(0, 3)
    amplitudes = s.rng.normal(size=5) * (0.1, 0.12, 0.1, 0.07, 0.05) * s.between(0.3, 1.0)
    phases = np.array([math.pi / 2, 0, math.pi / 2, 0, math.pi / 2]) if s.maybe(0.4) else s.rng.uniform(0, 6.28, 5)
    if kind <= 1:
        half = s.between(0.15, 0.6) if kind == 1 else s.between(0.06, 0.3)
        s.silhouette((0, 0, 0), s.between(0.5, 0.75), half, kind == 1, list(amplitudes), list(phases), mat=0)
    elif kind == 2:
        shape = (s.between(0.6, 0.9), s.whole(3, 9), s.between(2.0, 3.0), s.between(0.08, 0.3), s.between(0.01, 0.05))
        s.star((0, 0, 0), *shape, mat=0, rot=(0, 0, s.between(0, 0.6)))
    else:
        _gear(s)
        return
    if s.maybe(0.3):
        hole = (s.between(-0.2, 0.2), s.between(-0.2, 0.2), 0)
        s.cylinder(hole, 0.7, s.between(0.08, 0.25), rot=UPRIGHT, cut=True, mat=1)
    if s.maybe(0.4):
        at = (s.between(-0.4, 0.4), s.between(-0.4, 0.4), 0)
        waves = (list(amplitudes * 0.5), list(phases + 1))
        s.silhouette(at, s.between(0.25, 0.45), s.between(0.1, 0.4), s.maybe(0.5), *waves, blend=0.03, mat=2)
    if s.maybe(0.3):
        s.box((0, -0.8, 0), (s.between(0.2, 0.5), 0.08, s.between(0.1, 0.3)), 0.02, mat=3)
    if kind == 1 and s.maybe(0.4):
        s.ball((0.25, 0.2, s.between(0.1, 0.3)), 0.09, mirror=1, mat=4)


def _gear(s: Sketch) -> None:
    r = s.between(0.5, 0.7)
    s.cylinder((0, 0, 0), s.between(0.1, 0.25), r, mat=0)
    s.box((r, 0, 0), (0.1, 0.1, s.between(0.05, 0.1)), 0.01, repeat=s.whole(6, 14), mat=0)
    s.cylinder((0, 0, 0), 0.5, r * s.between(0.2, 0.6), cut=True, mat=1)
