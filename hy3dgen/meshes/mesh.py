"""The mesh that travels between rooms: arrays with a contract, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in file space: right-handed, y up, +z towards the viewer of the front picture (glTF).

    vertices: (V, 3) float32
    faces: (F, 3) int32, counter-clockwise seen from outside
    uv: (V, 2) float32 in [0, 1], v up (glTF writers flip it), or None
    normals: (V, 3) float32 unit vectors, or None
    texture: (T, T, 3) uint8, sRGB, row 0 at v = 1, or None
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    normals: np.ndarray | None = None
    texture: np.ndarray | None = None

    def with_(self, **changes: Any) -> Mesh:
        """A copy with some fields replaced."""
        return replace(self, **changes)
