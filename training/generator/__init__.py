"""Procedural training data in batches, on whatever device torch has.

``draw`` (parameters, through ``benchmarks.shapes``) → ``solids`` (one field per shape, on ``primitives``) → ``surface``
(points with normals, boxes), ``targets`` (queries and clamped fields), ``pictures`` (sphere traced, side targets) →
``augment`` (what a camera does to a picture). ``stream`` feeds a training loop and remembers where it is.
"""
