"""Characters: people and plush animals with faces, hair, hats, clothes and something in their hands; busts of them.

Heads are as large as on toys or as small as on adults. Faces are often flush with the head, so that their colours say
nothing about relief.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.shapes.sketch import Sketch

# materials: skin, hair, shirt, trousers, shoes, hat, a thing in the hand, dark (eyes)
SKIN, HAIR, SHIRT, TROUSERS, SHOES, HAT, THING, DARK = range(8)


def person(s: Sketch) -> None:
    """Head to toe; origin at the hips."""
    r = s.between(0.12, 0.34)  # radius of the head: a head in seven, or in two
    w, h = s.between(0.13, 0.26), s.between(0.22, 0.38)  # half width and height of the trunk
    d = w * s.between(0.5, 0.85)
    y = 2 * h + r * s.between(0.85, 1.1)
    _trunk(s, w, h, d)
    _person_legs(s, w, h, d)
    s.limb((0, 2 * h - 0.05, 0), (0, y - 0.3 * r, 0), r * 0.35, r * 0.35, blend=0.02, mat=SKIN)
    _head(s, y, r)
    hand = _person_arms(s, w, h, d)
    if s.maybe(0.55):
        _held(s, hand, h)
    if s.maybe(0.15):
        s.box((0, h * 1.2, -d - 0.08), (w * 0.8, h * 0.5, 0.1), 0.05, mat=THING)  # a rucksack


def bust(s: Sketch) -> None:
    """Head and shoulders."""
    r, w = s.between(0.35, 0.5), s.between(0.4, 0.7)
    s.ellipsoid((0, -0.75, 0), (w, s.between(0.25, 0.4), w * s.between(0.45, 0.7)), mat=SHIRT)
    s.limb((0, -0.6, -0.02), (0, -0.1, 0), r * s.between(0.35, 0.55), r * 0.4, blend=0.06, mat=SKIN)
    _head(s, 0.15, r)
    if s.maybe(0.4):
        s.torus((0, -0.5, 0), r * 0.55, s.between(0.05, 0.12), rot=(math.pi / 2 - 0.15, 0, 0), mat=THING)
    if s.maybe(0.3):
        s.tapered_box((0, -1.05, 0), (w * 0.7, 0.12, w * 0.5), 0.02, 0.8, 0.8, mat=SHOES)


def plush(s: Sketch) -> None:
    """An animal that sits or stands upright, with clothes perhaps: round parts, all blended."""
    r, fat = s.between(0.3, 0.48), s.between(0.26, 0.45)
    y, k = fat * 0.9 + r * 0.75, s.between(0.02, 0.08)
    s.ellipsoid((0, 0, 0), (fat, fat * s.between(0.95, 1.3), fat * s.between(0.8, 1.0)), mat=SHIRT)
    s.ellipsoid((0, y, 0.02), (r * s.between(1.0, 1.2), r, r * s.between(0.9, 1.05)), blend=k, mat=SKIN)
    _ears(s, y, r)
    nose = r * s.between(0.25, 0.45)
    s.ellipsoid((0, y - r * 0.2, r * 0.9), (nose, nose * 0.75, nose), blend=0.02, mat=HAIR)
    s.ball((0, y - r * 0.1, r * 0.9 + nose * 0.9), r * s.between(0.08, 0.14), mat=DARK)
    _eyes(s, y, r)
    sits = s.maybe(0.5)
    x, z = fat * 0.65, fat * s.between(0.6, 1.0)
    foot = (x * s.between(0.9, 1.3), -fat * 0.8, z + 0.1) if sits else (x * 0.9, -fat - s.between(0.15, 0.3), 0.03)
    s.limb((x * 0.8, -fat * 0.7, 0), foot, s.between(0.1, 0.17), s.between(0.1, 0.17), mirror=1, blend=k, mat=SHIRT)
    s.ellipsoid((foot[0], foot[1], foot[2] + 0.05), (0.13, 0.1, 0.16), mirror=1, blend=0.02, mat=SKIN)
    up = s.between(-1.2, 0.9)
    hand = (fat + s.between(0.15, 0.35) * math.cos(up), fat * 0.45 + 0.35 * math.sin(up), s.between(0.0, 0.3))
    s.limb((fat * 0.8, fat * 0.55, 0), hand, s.between(0.08, 0.14), s.between(0.08, 0.13), mirror=1, blend=k, mat=SHIRT)
    if s.maybe(0.6):
        s.ellipsoid((0, -0.03, fat * 0.55), (fat * 0.7, fat * 0.75, fat * 0.5), blend=0.02, mat=SKIN)
    if s.maybe(0.35):
        _hats(s, y, r)
    if s.maybe(0.4):  # a scarf, or a bow tie
        s.torus((0, y - r * 0.85, 0), r * 0.6, s.between(0.04, 0.08), rot=(math.pi / 2, 0, 0), mat=THING)
    if s.maybe(0.5):
        s.ball((0, -fat * 0.6, -fat), s.between(0.06, 0.16), mat=SKIN)
    if s.maybe(0.3):
        _held(s, np.array(hand), fat)


def _trunk(s: Sketch, w: float, h: float, d: float) -> None:
    kind = s.whole(0, 3)
    if kind == 0:
        s.tapered_box((0, h, 0), (w, h, d), s.between(0.04, 0.09), s.between(0.9, 1.3), 1.0, mat=SHIRT)
    elif kind == 1:
        s.ellipsoid((0, h, 0), (w, h * 1.1, d), mat=SHIRT)
    else:
        waist, chest = w * s.between(0.7, 1.1), w * s.between(0.7, 1.0)
        s.limb((0, 0.05, 0), (0, 2 * h - chest * 0.8, 0), waist, chest, mat=SHIRT)
    if s.maybe(0.35):
        s.cylinder((0, 0.06, 0), s.between(0.02, 0.05), w * s.between(1.0, 1.1), mat=THING)  # a belt
    if s.maybe(0.2):
        s.cylinder((0, h * 0.9, -d * 0.7), h * 1.05, w * s.between(1.1, 1.6), w * 0.7, mat=HAT)  # a cape
        s.box((0, h * 0.9, d * 1.6), (2 * w, h * 1.5, d * 1.5), 0.01, cut=True, blend=0.01, mat=HAT)
        s.limb((0, 0.05, 0), (0, 2 * h - w * 0.7, 0), w * 0.85, w * 0.8, mat=SHIRT)
    if s.maybe(0.3):
        s.ball((0, h * s.between(0.9, 1.3), d * 0.95), s.between(0.02, 0.05), mat=THING)  # a button or a badge


def _person_legs(s: Sketch, w: float, h: float, d: float) -> None:
    leg = h * s.between(0.9, 2.4)
    kind = s.whole(0, 3)
    if kind == 0:  # a skirt or a gown
        long = leg * s.between(0.35, 1.0)
        s.cylinder((0, -long / 2 + 0.05, 0), long / 2, w * s.between(1.2, 2.2), w * 0.9, r=0.02, mat=TROUSERS)
        if long > 0.9 * leg:
            return
    r, x = w * s.between(0.28, 0.48), w * s.between(0.45, 0.6)
    stride, apart = s.between(-0.15, 0.15) if s.maybe(0.4) else 0.0, s.between(0, 0.1)
    lower = r * s.between(0.6, 1.1)
    for side in (1, -1) if stride else (0,):
        foot = ((side or 1) * (x + apart), -leg, side * stride)
        mirror = 0 if side else 1
        s.limb(((side or 1) * x, 0, 0), foot, r, lower, mirror=mirror, blend=0.02, mat=TROUSERS)
        shoe = (lower * 1.2, lower * s.between(0.6, 1.0), lower * s.between(1.5, 2.2))
        s.ellipsoid((foot[0], -leg - lower * 0.3, foot[2] + lower * 0.7), shoe, mirror=mirror, mat=SHOES)
    if s.maybe(0.3):
        s.cylinder((x + apart, -leg * 0.75, 0), leg * 0.2, lower * 1.25, mirror=1, mat=SHOES)  # boots


def _person_arms(s: Sketch, w: float, h: float, d: float) -> np.ndarray:
    """Returns where the right hand is."""
    upper, lower = h * s.between(0.7, 1.1), h * s.between(0.6, 1.0)
    r, shoulder = s.between(0.045, 0.09), np.array([w * 0.95, 2 * h - 0.08, 0.0])
    sleeve = s.maybe(0.5)
    alike, hand = s.maybe(0.5), shoulder
    for side in (1,) if alike else (1, -1):
        out, forth = s.between(-1.5, 0.9), s.between(-0.3, 0.6)
        elbow = shoulder + upper * np.array([math.cos(out), math.sin(out), 0.3 * forth])
        bend, front = out + s.between(-0.4, 1.2), s.between(0.0, 0.9)
        end = elbow + lower * np.array([math.cos(bend) * (1 - 0.4 * front), math.sin(bend), front])
        flip = np.array([side, 1, 1])
        mirror = int(alike)
        s.limb(shoulder * flip, elbow * flip, r * 1.25, r, mirror=mirror, blend=0.03, mat=SHIRT)
        s.limb(elbow * flip, end * flip, r, r * 0.8, mirror=mirror, blend=0.02, mat=SHIRT if sleeve else SKIN)
        s.ball(end * flip, r * s.between(1.1, 1.6), mirror=mirror, mat=SKIN)
        if side == 1:
            hand = end
    return hand


def _head(s: Sketch, y: float, r: float) -> None:
    shape = (r * s.between(0.82, 1.05), r, r * s.between(0.85, 1.05))
    if s.maybe(0.08):
        s.box((0, y, 0), (shape[0] * 0.95, r * 0.95, shape[2] * 0.9), r * 0.25, mat=SKIN)
    else:
        s.ellipsoid((0, y, 0), shape, mat=SKIN)
    _eyes(s, y, r)
    if s.maybe(0.65):  # a nose
        size = r * s.between(0.08, 0.2)
        s.ellipsoid((0, y - r * 0.12, shape[2] * 0.97), (size * 0.8, size * s.between(0.8, 1.6), size), mat=SKIN)
    kind = s.whole(0, 3)
    if kind == 0:
        s.ellipsoid((0, y - r * 0.45, shape[2] * 0.84), (r * s.between(0.15, 0.35), r * 0.06, r * 0.08), mat=HAT)
    elif kind == 1:
        mouth = (r * s.between(0.15, 0.3), r * s.between(0.05, 0.12), r * 0.15)
        s.ellipsoid((0, y - r * 0.45, shape[2] * 0.95), mouth, cut=True, blend=0.01, mat=DARK)
    elif kind == 2 and s.maybe(0.5):  # a beard
        s.ellipsoid((0, y - r * 0.65, r * 0.4), (r * 0.65, r * s.between(0.4, 0.9), r * 0.6), blend=0.03, mat=HAIR)
    if s.maybe(0.5):
        s.ellipsoid((shape[0], y - r * 0.05, 0), (r * 0.1, r * 0.2, r * 0.15), mirror=1, mat=SKIN)
    if s.maybe(0.75):
        _hair(s, y, r)
    if s.maybe(0.4):
        _hats(s, y, r)
    if s.maybe(0.15):  # spectacles
        s.torus((r * 0.38, y + r * 0.1, r * 0.98), r * 0.26, r * 0.045, mirror=1, mat=DARK)
        s.box((0, y + r * 0.1, r * 1.0), (r * 0.14, r * 0.03, r * 0.04), 0.005, mat=DARK)


def _eyes(s: Sketch, y: float, r: float) -> None:
    x, up = r * s.between(0.3, 0.45), y + r * s.between(0.0, 0.2)
    z = math.sqrt(max(r * r - x * x, 0.01)) * 0.95
    size, flush = r * s.between(0.08, 0.24), s.maybe(0.5)
    deep = size * (0.35 if flush else 0.8)
    if s.maybe(0.4) and size > 0.12 * r:  # white with a pupil
        s.ellipsoid((x, up, z), (size, size * s.between(1.0, 1.5), deep), mirror=1, mat=SHIRT)
        s.ball((x, up, z + deep * 0.75), size * 0.45, mirror=1, mat=DARK)
    else:
        s.ellipsoid((x, up, z), (size, size * s.between(0.8, 1.6), deep), mirror=1, mat=DARK)
    if s.maybe(0.35):
        tilt = (0, 0, s.between(-0.4, 0.4))
        s.box((x, up + size * 1.8, z), (size * 1.3, r * 0.04, r * 0.06), 0.01, rot=tilt, mirror=1, mat=HAIR)


def _hair(s: Sketch, y: float, r: float) -> None:
    lift, back = r * s.between(0.08, 0.2), -r * s.between(0.12, 0.3)
    s.ellipsoid((0, y + lift, back), (r * s.between(1.02, 1.15), r * 1.03, r * s.between(0.95, 1.1)), mat=HAIR)
    kind = s.whole(0, 6)
    if kind == 0:  # long
        end = (0, y - r * s.between(1.2, 2.6), -r * 0.75)
        s.limb((0, y, -r * 0.45), end, r * 0.85, r * s.between(0.3, 0.8), blend=0.04, mat=HAIR)
    elif kind == 1:  # a pony tail
        end = (0, y - r * s.between(0.3, 1.5), -r * s.between(1.4, 2.0))
        s.limb((0, y + r * 0.5, -r * 0.9), end, r * 0.25, r * s.between(0.1, 0.3), mat=HAIR)
    elif kind == 2:  # buns, or bunches
        at = (r * s.between(0.6, 1.15), y + r * s.between(0.1, 0.95), -r * 0.1)
        s.ball(at, r * s.between(0.25, 0.42), mirror=1, mat=HAIR)
    elif kind == 3:  # spikes
        for angle in np.linspace(-1.1, 1.1, s.whole(3, 5)):
            tip = (r * 1.6 * math.sin(angle), y + r * (0.3 + 1.3 * math.cos(angle)), -r * s.between(0.0, 0.4))
            s.limb((r * 0.6 * math.sin(angle), y + r * 0.6, 0), tip, r * 0.32, r * 0.05, mat=HAIR)
    elif kind == 4:  # a fringe and sides
        s.ellipsoid((0, y + r * 0.62, r * 0.72), (r * 0.8, r * 0.25, r * 0.3), blend=0.02, mat=HAIR)
        s.limb(
            (r * 0.9, y + r * 0.3, 0),
            (r * 0.85, y - r * s.between(0.3, 1.4), 0.0),
            r * 0.22,
            r * 0.15,
            mirror=1,
            mat=HAIR,
        )
    elif kind == 5:  # a top knot
        s.ball((0, y + r * 1.25, -r * 0.1), r * s.between(0.25, 0.4), mat=HAIR)


def _hats(s: Sketch, y: float, r: float) -> None:
    kind, top = s.whole(0, 7), y + r * 0.55
    if kind == 0:  # top hat, bowler
        high = r * s.between(0.3, 0.9)
        s.cylinder((0, top + high, 0), high, r * 0.95, r * s.between(0.7, 1.0), r=0.02, mat=HAT)
        s.cylinder((0, top, 0), 0.025, r * s.between(1.25, 1.9), mat=HAT)
    elif kind == 1:  # a wizard's or a party hat
        high = r * s.between(0.6, 1.2)
        s.cylinder((0, top + high, 0), high, r * 0.95, 0.03, r=0.01, mat=HAT)
        if s.maybe(0.5):
            s.cylinder((0, top, 0), 0.03, r * s.between(1.3, 2.0), mat=HAT)
    elif kind == 2:  # a cap with a peak
        s.ellipsoid((0, y + r * 0.35, 0), (r * 1.1, r * 0.95, r * 1.1), mat=HAT)
        s.ellipsoid((0, top, r * 1.0), (r * 0.75, r * 0.08, r * s.between(0.5, 0.8)), mat=HAT)
    elif kind == 3:  # a woollen hat
        s.ellipsoid((0, y + r * 0.5, -r * 0.05), (r * 1.08, r * s.between(0.8, 1.2), r * 1.08), mat=HAT)
        s.torus((0, top, 0), r * 0.95, r * 0.15, rot=(math.pi / 2, 0, 0), mat=HAT)
        if s.maybe(0.6):
            s.ball((0, y + r * 1.6, 0), r * 0.25, mat=THING)
    elif kind == 4:  # a crown
        s.cylinder((0, top + r * 0.25, 0), r * 0.3, r * 0.95, r * 1.05, mat=HAT)
        s.prism(
            (r * 0.95, top + r * 0.65, 0),
            r * 0.25,
            r * 0.4,
            0.03,
            rot=(0, math.pi / 2, 0),
            repeat=s.whole(5, 8),
            mat=HAT,
        )
    elif kind == 5:  # a helmet
        s.ellipsoid((0, y + r * 0.15, -r * 0.12), (r * 1.2, r * 1.15, r * 1.2), mat=HAT)
        s.box((0, y - r * 0.2, r * 0.95), (r * 0.75, r * 0.55, r * 0.6), 0.02, cut=True, blend=0.02, mat=HAT)
        s.ellipsoid((0, y - r * 0.05, r * 0.1), (r * 0.9, r * 0.85, r * 0.9), mat=SKIN)
        if s.maybe(0.5):
            s.box((0, y + r * 1.2, -r * 0.2), (0.03, r * 0.3, r * 0.8), 0.02, mat=THING)
    elif kind == 6:  # a straw hat
        s.ellipsoid((0, top, 0), (r * s.between(1.5, 2.2), r * 0.12, r * s.between(1.5, 2.2)), mat=HAT)
        s.ellipsoid((0, top + r * 0.2, 0), (r * 0.95, r * 0.6, r * 0.95), mat=HAT)
    else:
        _ears(s, y, r)


def _ears(s: Sketch, y: float, r: float) -> None:
    kind = s.whole(0, 2)
    if kind == 0:
        size = r * s.between(0.28, 0.5)
        s.ellipsoid((r * 0.75, y + r * 0.75, 0), (size, size, size * 0.45), mirror=1, mat=SKIN)
    elif kind == 1:
        tip = (r * s.between(0.4, 1.1), y + r * s.between(1.6, 2.6), -r * 0.1)
        s.limb((r * 0.45, y + r * 0.8, 0), tip, r * 0.22, r * s.between(0.1, 0.25), mirror=1, mat=SKIN)
    else:
        s.prism(
            (r * 0.6, y + r * 1.0, 0),
            r * 0.3,
            r * s.between(0.5, 0.9),
            0.05,
            0.02,
            rot=(0, 0, -0.4),
            mirror=1,
            mat=SKIN,
        )


def _held(s: Sketch, hand: np.ndarray, h: float) -> None:
    x, y, z = hand
    kind, lean = s.whole(0, 6), s.between(-0.5, 0.5)
    along = np.array([math.sin(lean), math.cos(lean), s.between(-0.2, 0.4)])
    if kind == 0:  # a sword
        s.limb(hand - 0.1 * along, hand + 0.1 * along, 0.03, 0.03, mat=THING)
        s.limb(hand + 0.1 * along, hand + h * s.between(1.2, 2.6) * along, 0.045, 0.03, mat=HAT)
        s.limb(hand + 0.1 * along - (0.12, 0, 0), hand + 0.1 * along + (0.12, 0, 0), 0.03, 0.03, mat=THING)
    elif kind == 1:  # a staff, a spear, a torch
        end = hand + h * s.between(0.8, 1.8) * along
        s.limb(hand - h * s.between(0.8, 2.0) * along, end, 0.03, 0.03, mat=THING)
        s.ball(end, s.between(0.05, 0.13), mat=HAT)
    elif kind == 2:  # a shield
        turned = (math.pi / 2, 0, 0)
        s.cylinder((x, y, z + 0.08), 0.03, s.between(0.18, 0.34), rot=turned, mat=THING)
        s.ball((x, y, z + 0.1), 0.07, mat=HAT)
    elif kind == 3:  # a ball
        size = s.between(0.1, 0.22)
        s.ball((x, y - size * 0.5, z + size), size, mat=THING)
    elif kind == 4:  # a bag, a case, a lantern
        half = (s.between(0.08, 0.2), s.between(0.1, 0.2), s.between(0.04, 0.1))
        s.box((x, y - 0.12 - half[1], z), half, 0.03, mat=THING)
        s.torus((x, y - 0.12, z), 0.07, 0.02, mat=DARK)
    elif kind == 5:  # an umbrella
        top = hand + np.array([0, h * s.between(1.2, 2.0), 0.05])
        s.limb(hand - (0, 0.15, 0), top, 0.025, 0.025, mat=DARK)
        s.cylinder(top - (0, 0.1, 0), s.between(0.08, 0.16), s.between(0.35, 0.55), 0.05, mat=THING)
    else:  # a book, a sign
        s.box(
            (x, y + 0.12, z + 0.05),
            (s.between(0.1, 0.22), s.between(0.12, 0.25), 0.03),
            0.01,
            rot=(lean, 0, 0),
            mat=THING,
        )
