"""A list of primitives being written down: each verb adds one part. Chance comes from one generator, so that a
shape is a function of its seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.shapes import primitives as p
from benchmarks.shapes.folding import SMOOTH_UNION, SUBTRACTION, UNION

MAX_PRIMITIVES = 24
MORE_PRIMITIVES = 40  # for the categories that came later
LEAST_BLEND = 1e-4

Vector = Sequence[float] | np.ndarray


class Sketch:
    """Parts in folding order. Common options of every part:

    rot: Euler angles (x, y, z) in radians; frame: (3, 3) columns = the part's axes, instead of ``rot``
    blend: width of a smooth union, 0 = sharp; cut: subtract instead of add
    mirror: 1 = copy across x, 2 = across z, 3 = both; repeat: number of copies about y
    mat: material index 0..7; grow: offset of the surface
    """

    def __init__(self, rng: np.random.Generator, limit: int = MAX_PRIMITIVES) -> None:
        self.rng, self.limit = rng, limit
        self.rows: list[np.ndarray] = []

    # chance
    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def whole(self, low: int, high: int) -> int:
        """An integer in [low, high]."""
        return int(self.rng.integers(low, high + 1))

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    # parts
    def box(self, at: Vector, half: Vector, r: float = 0.02, **how: Any) -> None:
        self.add(p.BOX, at, [*half, r], _norm(half), **how)

    def ellipsoid(self, at: Vector, radii: Vector, **how: Any) -> None:
        self.add(p.ELLIPSOID, at, radii, max(radii), **how)

    def ball(self, at: Vector, radius: float, **how: Any) -> None:
        self.ellipsoid(at, (radius, radius, radius), **how)

    def cylinder(
        self, at: Vector, half: float, r1: float, r2: float | None = None, r: float = 0.01, **how: Any
    ) -> None:
        """Along y; ``r2`` is the top radius, the bottom's when None; ``r`` rounds the edge."""
        r2 = r1 if r2 is None else r2
        self.add(p.CONE, at, [half, r1, r2, r], math.hypot(half, max(r1, r2)), **how)

    def torus(self, at: Vector, ring: float, tube: float, opening: float = math.pi, **how: Any) -> None:
        """In xy; ``opening`` is half the arc's angle, pi = a closed ring."""
        self.add(p.TORUS, at, [ring, tube, math.sin(opening), math.cos(opening)], ring + tube, **how)

    def limb(self, start: Vector, end: Vector, r1: float, r2: float, **how: Any) -> None:
        """A round cone from point to point."""
        begin = np.asarray(start, float)
        along = np.asarray(end, float) - begin
        length = max(float(np.linalg.norm(along)), 0.02)
        self.add(p.LIMB, begin, [length, r1, r2], length + max(r1, r2), frame=_frame_along(along / length), **how)

    def prism(self, at: Vector, half_width: float, height: float, half: float, r: float = 0.0, **how: Any) -> None:
        self.add(p.PRISM, at, [half_width, height, half, r], _norm((half_width, height, half)) + 0.05, **how)

    def revolved(self, at: Vector, half: float, radii: Vector, **how: Any) -> None:
        self.add(p.REVOLVED, at, [half, *radii], math.hypot(half, 1.15 * max(radii)), **how)

    def star(
        self, at: Vector, radius: float, points: float, sharp: float, half: float, r: float = 0.01, **how: Any
    ) -> None:
        self.add(p.STAR, at, [radius, points, sharp, half, r], math.hypot(radius, half) + 0.02, **how)

    def silhouette(
        self,
        at: Vector,
        radius: float,
        half: float,
        inflated: bool,
        amplitudes: Sequence[float],
        phases: Sequence[float],
        r: float = 0.02,
        **how: Any,
    ) -> None:
        waves = [value for pair in zip(amplitudes, phases) for value in pair]
        bound = radius + sum(abs(a) for a in amplitudes) + half
        self.add(p.SILHOUETTE, at, [radius, half, float(inflated), r, *waves], bound, **how)

    def tapered_box(
        self, at: Vector, half: Vector, r: float = 0.02, top_x: float = 1.0, top_z: float = 1.0, **how: Any
    ) -> None:
        """``top_x``, ``top_z``: size of the top relative to the bottom."""
        widest = max(top_x, top_z, 1.0)
        bound = _norm((half[0] * widest, half[1], half[2] * widest))
        self.add(p.TAPERED_BOX, at, [*half, r, top_x, top_z], bound, **how)

    def add(
        self,
        kind: int,
        at: Vector,
        parameters: Vector,
        bound: float,
        *,
        rot: Vector | None = None,
        frame: np.ndarray | None = None,
        blend: float = 0.0,
        cut: bool = False,
        mirror: int = 0,
        repeat: int = 0,
        mat: int = 0,
        grow: float = 0.0,
    ) -> None:
        """One primitive; parts beyond the limit are left out."""
        if len(self.rows) >= self.limit:
            return
        axes = frame if frame is not None else euler(*(rot or (0.0, 0.0, 0.0)))
        row = np.zeros(p.ROW_FLOATS)
        row[p.TYPE] = kind
        row[p.OPERATION] = SUBTRACTION if cut else (SMOOTH_UNION if blend > 0 else UNION)
        row[p.BLEND], row[p.MIRROR], row[p.REPEAT], row[p.MATERIAL] = max(blend, LEAST_BLEND), mirror, repeat, mat
        row[p.CENTRE : p.CENTRE + 3] = at
        row[p.ROTATION : p.ROTATION + 9] = np.asarray(axes).T.ravel()
        row[p.PARAMETER : p.PARAMETER + len(parameters)] = parameters
        row[p.BOUND], row[p.INFLATE] = bound + grow + 0.01, grow
        self.rows.append(row)


def euler(x: float, y: float, z: float) -> np.ndarray:
    """(3, 3) rotation: about x, then y, then z."""
    cx, sx, cy, sy, cz, sz = math.cos(x), math.sin(x), math.cos(y), math.sin(y), math.cos(z), math.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _norm(values: Vector) -> float:
    return math.sqrt(sum(value * value for value in values))


def _frame_along(y: np.ndarray) -> np.ndarray:
    """(3, 3) columns: a right-handed frame whose second axis is ``y``."""
    reference = np.array([1.0, 0, 0]) if abs(y[1]) > 0.9 else np.array([0, 1.0, 0])
    x = np.cross(y, reference)
    x /= np.linalg.norm(x)
    return np.stack([x, y, np.cross(x, y)], axis=1)
