"""Procedural shapes with known signed fields: 24 categories, 16 fixed shapes each, for measuring the embedded model.

    from benchmarks.shapes import CATEGORIES, shape
    mug = shape("mug", 3)
    inside = mug.field(points) > 0
    picture = mug.render(512)

``primitives`` → ``folding`` (one field from many parts) → ``sketch`` (writing a list of parts) → ``categories``;
``look`` and ``render`` make pictures. The distributions are those the embedded model was trained on, other seeds.
"""

from __future__ import annotations

from benchmarks.shapes.categories import CATEGORIES, MORE
from benchmarks.shapes.shape import SHAPES_PER_CATEGORY, Shape, sculpt, shape

__all__ = ["CATEGORIES", "MORE", "SHAPES_PER_CATEGORY", "Shape", "sculpt", "shape"]
