"""One picture laid over the raster of a mesh seen from its side, and what its colours are worth there."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from hy3dgen.baking.texels import Surface
from hy3dgen.errors import UsageError
from hy3dgen.rendering.cameras import View, transform_points
from hy3dgen.rendering.rasterizers import interpolate, rasterize

FULL_TRUST = 0.05
"""Trust from which a texel keeps the pictures' colour unmixed; reached at about 63 degrees from the view."""
COUNTED_TRUST = 0.1 * FULL_TRUST
"""Trust from which a view counts as showing a texel."""
LIMIT_DEG = 80.0
FALLOFF = 3
STEEP_DEG = 60.0
"""Elevation above which a picture counts as one from the pole."""
FAR = -1e9
"""Camera z where a view sees nothing."""


@dataclass(frozen=True)
class Shot:
    """One picture, laid over the raster of its view.

    view: orthographic; image: (H, W, 3) uint8 sRGB, without background colour anywhere
    soft: (h, w, 3) uint8, the same picture blurred, for what lies behind
    confidence: (H, W) float32 in [0, 1]; depth: (H, W) float32 camera z of the surface, far behind where there is none
    level_depth: as depth, seen from the same azimuth at level by a picture taken from somewhat above or below: what
        lies behind the surface is looked up along the horizontal, see ``level_depth_of``. None: along the view itself
    """

    view: View
    image: np.ndarray
    soft: np.ndarray
    confidence: np.ndarray
    depth: np.ndarray
    weight: float = 1.0
    level_depth: np.ndarray | None = None

    def blurred(self, length: float) -> Shot:
        """The same shot with details below ``length`` (units of the framed mesh) smoothed away."""
        sigma = 0.5 * length / self.view.ortho_scale * self.image.shape[1]
        if sigma < 0.3:
            return self
        return replace(self, image=cv2.GaussianBlur(self.image, (0, 0), sigma))


def depth_of(
    surface: Surface, view: View, size: tuple[int, int], *, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """(camera z (H, W) float32, covered (H, W) bool) of a surface seen by an orthographic view."""
    if view.fovy_deg is not None:
        raise UsageError("pictures are projected with orthographic views; leave fovy_deg unset")
    camera = transform_points(view.matrix(), torch.from_numpy(surface.positions).to(device))
    faces = torch.from_numpy(surface.faces).to(device)
    raster = rasterize(transform_points(view.projection(), camera), faces, size)
    depth = interpolate(camera[:, 2:3].contiguous(), faces, raster)[..., 0]
    covered = raster.covered
    return torch.where(covered, depth, depth.new_tensor(FAR)).cpu().numpy(), covered.cpu().numpy()


def level_depth_of(
    surface: Surface, view: View, size: tuple[int, int], *, device: torch.device | str = "cpu"
) -> np.ndarray | None:
    """What ``Shot.level_depth`` holds for a view; None for a level one, and for one so steep that its own ray is nearer
    to the vertical: what lies under an object's top is its bottom, not its front."""
    if view.elevation_deg == 0 or abs(view.elevation_deg) > STEEP_DEG:
        return None
    return depth_of(surface, view.with_(elevation_deg=0.0), size, device=device)[0]


def camera_constants(shot: Shot) -> np.ndarray:
    """(5,) float32: pixels per unit across and down, cosine limit, weight, side of a pixel in units."""
    height, width = shot.depth.shape
    per_unit = 1.0 / shot.view.ortho_scale
    return np.array(
        [(width - 1) * per_unit, (height - 1) * per_unit, math.cos(math.radians(LIMIT_DEG)), shot.weight,
         shot.view.ortho_scale / max(1, min(height, width) - 1)], np.float32,
    )  # fmt: skip
