"""What every rasteriser back end must answer, and the numbers they share.

Rules (float32 unless said): pixel x = (x/w * 0.5 + 0.5) * (W - 1) + 0.5, y likewise without a flip, depth
z/w * 0.49999 + 0.5. (``EXACT`` maps to the whole picture instead: x = (x/w * 0.5 + 0.5) * W.)
Signed area S(p, q, r) = (r.x - p.x)(q.y - p.y) - (q.x - p.x)(r.y - p.y); a face of area exactly 0 is skipped. At a
pixel's centre beta = S(a, P, c)/S, gamma = S(a, b, P)/S, alpha = 1 - beta - gamma in float64, rounded once. Inside
means all three in [0, 1], ends included; both windings are drawn; nothing is clipped but depth < 0 (or below the depth
prior). Depth is cut to 2^18 steps (``EXACT``: 2^30); the nearest step wins, then the lowest face.
Faces with a corner that is not finite, and faces whose area overflows, are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

DEPTH_SCALE = 0.49999
KEY_BASE = (1 << 31) - 1
"""A key is depth step * KEY_BASE + (face + 1); the smallest key of a pixel wins."""
EMPTY_KEY = KEY_BASE * KEY_BASE + KEY_BASE - 1
OCCLUSION_TRUNCATION = 1e-6
"""What is nearer than the depth prior plus this is not drawn."""


@dataclass(frozen=True)
class Rules:
    """What the reference's rasteriser does and a picture for people need not do.

    depth_steps: steps in a unit of depth; what lies within one step is decided by the face number
    centres: -1 and 1 of device space are the centres of the first and last pixel, not the edges of the picture
    """

    depth_steps: int
    centres: bool

    def scale_px(self, pixels: int) -> float:
        """Pixels between -1 and 1 of device space."""
        return float(pixels - 1 if self.centres else pixels)

    @property
    def offset_px(self) -> float:
        """Where -1 of device space lies."""
        return 0.5 if self.centres else 0.0


PARITY = Rules(1 << 18, centres=True)
EXACT = Rules(1 << 30, centres=False)


@dataclass(frozen=True)
class Raster:
    """Which face each pixel shows.

    face_ids: (H, W) int32, face index + 1, 0 for background
    barycentrics: (H, W, 3) float32, perspective-correct, sum 1; zeros on the background
    """

    face_ids: torch.Tensor
    barycentrics: torch.Tensor

    @property
    def covered(self) -> torch.Tensor:
        """(H, W) bool, True where a face is seen."""
        return self.face_ids > 0


class Rasterizer(Protocol):
    """A back end: checked arguments in, ids and barycentrics out, on the device of ``clip``."""

    def __call__(
        self,
        clip: torch.Tensor,
        faces: torch.Tensor,
        size: tuple[int, int],
        depth_prior: torch.Tensor | None,
        rules: Rules,
    ) -> Raster: ...
