"""How the embedded model is made: procedural shapes, their pictures, the two training phases, export, evaluation.

The package never imports this; this imports the package's own networks and ``benchmarks.shapes``.
"""
