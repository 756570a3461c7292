"""Vases, mugs, teapots."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.sketch import Sketch


def random_profile(s: Sketch, low: float, high: float) -> np.ndarray:
    """(10,) radii: random, smoothed twice by a random amount, contrast raised again."""
    radii = s.rng.uniform(low, high, 10)
    weight = s.between(0, 1)
    for _ in range(2):
        padded = np.pad(radii, 1, mode="edge")
        radii = radii * (1 - weight) + weight * (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return np.clip(radii.mean() + (radii - radii.mean()) * 1.5, 0.06, high * 1.2)


def vase(s: Sketch) -> None:
    half = s.between(0.45, 1.0)
    radii = random_profile(s, 0.1, 0.65)
    if s.maybe(0.4):  # a neck
        radii = np.where(np.arange(10) >= 6, radii.mean() * s.between(0.25, 0.6), radii)
    s.revolved((0, 0, 0), half, radii, mat=0)
    if s.maybe(0.6):
        # the inner profile takes the smallest of three knots, else a steep outer wall would be cut through
        padded = np.pad(radii, 1, mode="edge")
        inner = np.minimum(np.minimum(padded[:-2], padded[2:]), radii) - s.between(0.05, 0.09)
        s.revolved((0, 0.08, 0), half, np.maximum(inner, 0.02), cut=True, mat=1)
    else:
        if s.maybe(0.3):
            s.cylinder((0, half, 0), s.between(0.03, 0.08), radii[9] * s.between(1.0, 1.2), r=0.02, mat=2)
        if s.maybe(0.3):
            s.ball((0, half + 0.08, 0), s.between(0.06, 0.2), mat=2)
    if s.maybe(0.3):
        s.torus((radii.max() + 0.05, 0, 0), s.between(0.18, 0.35), s.between(0.03, 0.07), mat=1, mirror=1)
    if s.maybe(0.4):
        s.cylinder((0, -half, 0), 0.05, radii[0] * s.between(1.0, 1.4), r=0.02, mat=3)


def mug(s: Sketch) -> None:
    half, bottom = s.between(0.4, 0.8), s.between(0.3, 0.6)
    top = bottom * s.between(0.85, 1.25)
    wall, floor, hollow = s.between(0.05, 0.1), s.between(0.06, 0.15), s.maybe(0.85)
    s.cylinder((0, 0, 0), half, bottom, top, r=0.03, mat=0)
    if s.maybe(0.8):
        handle = ((bottom + top) / 2 + s.between(-0.02, 0.06), s.between(-0.1, 0.1), 0)
        tilt = (0, 0, s.between(-0.1, 0.1))
        s.torus(handle, half * s.between(0.45, 0.7), s.between(0.05, 0.1), rot=tilt, mat=2)
    if hollow:  # after the handle, so that nothing of it sticks into the cup
        s.cylinder((0, floor, 0), half, bottom - wall, top - wall, r=0.02, cut=True, mat=1)
    if s.maybe(0.3):
        s.torus((0, -half, 0), bottom * 0.8, 0.04, rot=(math.pi / 2, 0, 0), mat=0)


def teapot(s: Sketch) -> None:
    wide, high = s.between(0.45, 0.65), s.between(0.35, 0.6)
    s.ellipsoid((0, 0, 0), (wide, high, wide), mat=0)
    s.cylinder((0, -high * 0.9, 0), 0.06, wide * 0.55, r=0.02, blend=0.05, mat=0)
    tip = (wide + s.between(0.25, 0.45), high * s.between(0.3, 0.9), 0)
    s.limb((wide * 0.7, -0.1, 0), tip, s.between(0.12, 0.18), s.between(0.05, 0.09), blend=0.08, mat=1)
    s.torus((-wide - s.between(0, 0.1), 0, 0), high * s.between(0.5, 0.8), s.between(0.04, 0.08), mat=1)
    s.cylinder((0, high * 0.95, 0), 0.05, wide * 0.5, wide * 0.4, r=0.03, mat=2)
    s.ball((0, high + 0.13, 0), s.between(0.06, 0.12), mat=2)
