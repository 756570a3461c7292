"""From how high a picture was taken, told by its outline: the mesh is turned until its silhouette fits best.

Outlines alone cannot tell everything, so a view other than the level one is taken only when it fits clearly better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hy3dgen.baking.align import fit
from hy3dgen.baking.shots import depth_of
from hy3dgen.baking.texels import Surface
from hy3dgen.rendering.cameras import View

COARSE_DEG = tuple(float(angle) for angle in range(-15, 46, 5))
FINE_DEG = (-2.5, 2.5)
RASTER_PX = 192
CLEAR_GAIN = 0.02
"""Overlap (0 to 1) that a tilted view must win over the level one."""
ABOUT_EQUAL = 0.003
"""Of views that fit within this of the best, the most level one is taken: small changes are noise of the outline."""


@dataclass(frozen=True)
class Elevation:
    """The elevation that was chosen, and the overlap of outlines there and at level."""

    degrees: float
    overlap: float
    level_overlap: float


def find_elevation(
    surface: Surface, alpha: np.ndarray, azimuth_deg: float, *, device: torch.device | str = "cpu"
) -> Elevation:
    """Compare outlines at low resolution over elevations from -17.5 to 47.5 degrees; about a second on a CPU core.

    alpha: (h, w) uint8, the object where above 127; azimuth_deg: as in ``rendering.cameras``
    Deterministic. Raises ImageError when the picture shows no object.
    """

    def overlap(degrees: float) -> float:
        _, covered = depth_of(surface, View(azimuth_deg, degrees), (RASTER_PX, RASTER_PX), device=device)
        return fit(alpha, covered)[1]

    found = {degrees: overlap(degrees) for degrees in COARSE_DEG}
    middle = _most_level(found)
    found |= {middle + step: overlap(middle + step) for step in FINE_DEG}
    best = _most_level(found)
    chosen = best if found[best] >= found[0.0] + CLEAR_GAIN else 0.0
    return Elevation(chosen, found[chosen], found[0.0])


def _most_level(overlaps: dict[float, float]) -> float:
    """The elevation that fits best, the most level of those about equal.

    From the front and from below an object that is alike before and behind has the outline that it has from above, and
    people look down on things: below level must fit clearly better.
    """
    above = {degrees: value for degrees, value in overlaps.items() if degrees >= 0}
    below = {degrees: value for degrees, value in overlaps.items() if degrees < 0}
    side = below if max(below.values(), default=0.0) >= max(above.values()) + CLEAR_GAIN else above
    most = max(side.values())
    return min((degrees for degrees, value in side.items() if value >= most - ABOUT_EQUAL), key=abs)
