"""The reference's vertex inpainting under its old names; the real home is ``baking.inpaint``."""

from __future__ import annotations

import numpy as np

from hy3dgen.baking.inpaint import spread_over_vertices as meshVerticeInpaint_smooth
from hy3dgen.errors import UsageError

__all__ = ["meshVerticeInpaint", "meshVerticeInpaint_smooth"]


def meshVerticeInpaint(
    texture: np.ndarray,
    mask: np.ndarray,
    vtx_pos: np.ndarray,
    vtx_uv: np.ndarray,
    pos_idx: np.ndarray,
    uv_idx: np.ndarray,
    method: str = "smooth",
) -> tuple[np.ndarray, np.ndarray]:
    """Arguments and result as ``baking.inpaint.spread_over_vertices``; 'smooth' is the only method."""
    if method != "smooth":
        raise UsageError(f"unknown inpainting method '{method}'; the only one is 'smooth'")
    return meshVerticeInpaint_smooth(texture, mask, vtx_pos, vtx_uv, pos_idx, uv_idx)
