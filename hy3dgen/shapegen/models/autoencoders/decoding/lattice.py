"""Where the points of a grid lie: bounds, axes, and the ladder of resolutions.

A grid of resolution R has g = R + 1 points per axis; point (i, j, k) has flat index (i·g + j)·g + k, x first.
This module knows no networks.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hy3dgen.errors import UsageError

Bounds = float | Sequence[float]


def box_of(bounds: Any) -> tuple[np.ndarray, np.ndarray]:
    """(minimum, maximum), (3,) float64 each, of ``bounds``: b for [-b, b]³, or xmin, ymin, zmin, xmax, ymax, zmax.

    Raises UsageError when it is neither, or when the box is empty.
    """
    if isinstance(bounds, numbers.Real):
        box = np.array([[-float(bounds)] * 3, [float(bounds)] * 3])
    else:
        try:
            box = np.asarray(bounds, dtype=np.float64).reshape(2, 3)
        except (TypeError, ValueError) as error:
            raise UsageError(f"bounds is {bounds!r}; expected one number, or six: the minimum, the maximum") from error
    if not np.isfinite(box).all() or (box[1] <= box[0]).any():
        raise UsageError(f"bounds {bounds!r} describe an empty box; every maximum must exceed its minimum")
    return box[0], box[1]


def checked_resolution(octree_resolution: int | None) -> int:
    """Raises UsageError unless this is a whole number of cells."""
    if octree_resolution is None or int(octree_resolution) != octree_resolution or octree_resolution < 1:
        raise UsageError(f"octree_resolution is {octree_resolution}; expected a number of cells per axis, such as 256")
    return int(octree_resolution)


def checked_chunk(num_chunks: int) -> int:
    """Raises UsageError unless this is a positive number of points."""
    if num_chunks < 1:
        raise UsageError(f"num_chunks is {num_chunks}; expected the number of points per call, such as 8000")
    return int(num_chunks)


def checked_tile(tile_points: int | None) -> int | None:
    """Raises UsageError unless this is None or a positive number of points."""
    if tile_points is not None and tile_points < 1:
        raise UsageError(f"tile_points is {tile_points}; expected the number of points at once, such as 2048, or None")
    return None if tile_points is None else int(tile_points)


def ladder_of(resolution: int, min_resolution: int = 63) -> list[int]:
    """Ascending resolutions that end at ``resolution``: halved while at least ``min_resolution`` is left."""
    ladder = [resolution]
    while ladder[-1] // 2 >= max(min_resolution, 1):
        ladder.append(ladder[-1] // 2)
    return ladder[::-1]


@dataclass(frozen=True)
class Lattice:
    """The points of one grid. minimum, maximum: (3,) float64; resolution: cells per axis."""

    minimum: np.ndarray
    maximum: np.ndarray
    resolution: int

    @property
    def size(self) -> int:
        """Points per axis."""
        return self.resolution + 1

    @property
    def num_points(self) -> int:
        return self.size**3

    @cached_property
    def axes(self) -> np.ndarray:
        """(3, g) float32 coordinates per axis, computed in float64 and rounded once."""
        ends = zip(self.minimum, self.maximum)
        return np.stack([np.linspace(low, high, self.size, dtype=np.float32) for low, high in ends])

    def indices(self, flat: Tensor) -> Tensor:
        """(n,) int64 flat -> (n, 3) int64 grid indices, on the same device."""
        g = self.size
        return torch.stack([flat // (g * g), flat // g % g, flat % g], dim=-1)

    def points(self, flat: Tensor, axes: Tensor) -> Tensor:
        """(n,) int64 flat -> (n, 3) float32 coordinates. axes: ``self.axes`` on the device of ``flat``."""
        g = self.size
        return torch.stack([axes[0][flat // (g * g)], axes[1][flat // g % g], axes[2][flat % g]], dim=-1)


def generate_dense_grid_points(
    bbox_min: np.ndarray, bbox_max: np.ndarray, octree_resolution: int, indexing: str = "ij"
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """All points of a grid at once: ((g, g, g, 3) float32, [g, g, g], extent (3,)).

    bbox_min, bbox_max: (3,); indexing: 'ij' (x first) or 'xy' as in numpy.meshgrid. The decoders do not use this:
    at 384 cells the array takes 685 MB.
    """
    lattice = Lattice(np.asarray(bbox_min), np.asarray(bbox_max), octree_resolution)
    indexing_checked: Any = indexing
    points = np.stack(np.meshgrid(*lattice.axes, indexing=indexing_checked), axis=-1)
    return points, [lattice.size] * 3, np.asarray(bbox_max) - np.asarray(bbox_min)
