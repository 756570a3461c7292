"""The categories: each function writes one random shape of its kind into a sketch.

CATEGORIES, 24 of them, are what published figures are about. MORE came later, for training beside them, with held-out
shapes of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.shapes.categories.abstract import blobs, silhouettes, solids
from benchmarks.shapes.categories.buildings import house, tower
from benchmarks.shapes.categories.creatures import biped, bird, fish, quadruped
from benchmarks.shapes.categories.furniture import chair, shelf, sofa, table
from benchmarks.shapes.categories.people import bust, person, plush
from benchmarks.shapes.categories.plants import fruit, mushroom, tree
from benchmarks.shapes.categories.thin import fitting, frame, implement, machine
from benchmarks.shapes.categories.things import device, tool
from benchmarks.shapes.categories.vehicles import car, plane, ship
from benchmarks.shapes.categories.vessels import mug, teapot, vase
from benchmarks.shapes.sketch import Sketch

CATEGORIES: dict[str, Callable[[Sketch], None]] = {
    function.__name__: function
    for function in (
        vase, mug, teapot, chair, table, shelf, sofa, house, tower, car, plane, ship,
        quadruped, biped, bird, fish, tree, mushroom, fruit, tool, device, solids, blobs, silhouettes,
    )
}  # fmt: skip
MORE: dict[str, Callable[[Sketch], None]] = {
    function.__name__: function for function in (person, bust, plush, implement, frame, machine, fitting)
}
