"""The reference's camera functions under their old names; the real home is ``rendering.cameras``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hy3dgen.rendering.cameras import orthographic_projection as get_orthographic_projection_matrix
from hy3dgen.rendering.cameras import perspective_projection, transform_points, view_matrix

__all__ = ["get_mv_matrix", "get_orthographic_projection_matrix", "get_perspective_projection_matrix", "transform_pos"]


def transform_pos(mtx: np.ndarray | torch.Tensor, pos: torch.Tensor, keepdim: bool = False) -> torch.Tensor:
    """(V, 3) or (V, 4) points times a (4, 4) matrix: (V, 4) with ``keepdim``, else (1, V, 4)."""
    moved = transform_points(mtx, pos)
    return moved if keepdim else moved[None]


def get_mv_matrix(
    elev: float, azim: float, camera_distance: float, center: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """(4, 4) float32 view matrix; angles in degrees."""
    return view_matrix(elev, azim, camera_distance, None if center is None else list(np.asarray(center)))


def get_perspective_projection_matrix(fovy: float, aspect_wh: float, near: float, far: float) -> np.ndarray:
    """(4, 4) float32; fovy in degrees."""
    return perspective_projection(fovy, aspect_wh, near, far)
