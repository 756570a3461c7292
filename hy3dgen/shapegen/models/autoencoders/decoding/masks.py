"""Which grid points lie near the surface: boolean volumes, no networks.

Volumes are (g, g, g) tensors on any device; a point that has not been evaluated holds NaN, or less than -9000.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOT_EVALUATED_BELOW = -9000.0
BAND = 0.95  # |value| below which the published fields are not saturated


def sign_changes(volume: Tensor) -> Tensor:
    """(g, g, g) bool: evaluated points with an evaluated axis neighbour of another sign.

    Signs are -1, 0 and 1: an exact 0 differs from both others.
    """
    evaluated = volume > NOT_EVALUATED_BELOW  # NaN is not
    sign = (volume > 0).to(torch.int8) - (volume < 0).to(torch.int8)
    found = torch.zeros_like(evaluated)
    for axis in range(3):
        low, high = _pair(sign, axis)
        differ = low != high
        low_ok, high_ok = _pair(evaluated, axis)
        differ &= low_ok
        differ &= high_ok
        low_found, high_found = _pair(found, axis)
        low_found |= differ
        high_found |= differ
    return found


def extract_near_surface_volume_fn(input_tensor: Tensor, alpha: float) -> Tensor:
    """(g, g, g) int32, 1 where ``input_tensor + alpha`` changes its sign towards an axis neighbour.

    Points at or below -9000 count as not evaluated. ``alpha`` is added: pass minus the level of the surface.
    """
    return sign_changes(input_tensor + alpha).to(torch.int32)


def in_band(volume: Tensor, level: float) -> Tensor:
    """(g, g, g) bool: next to the surface at ``level``, or not saturated."""
    marked = sign_changes(volume - level)
    marked |= volume.abs() < BAND  # false for NaN
    return marked


def dilate(marked: Tensor) -> Tensor:
    """Every point within Chebyshev distance 1 of a marked one; (g, g, g) bool, a new tensor."""
    for axis in range(3):
        grown = marked.clone()
        low, high = _pair(marked, axis)
        low_grown, high_grown = _pair(grown, axis)
        low_grown |= high
        high_grown |= low
        marked = grown
    return marked


def refine(marked: Tensor, resolution: int, radius: int) -> Tensor:
    """Every point of the finer grid within Chebyshev distance ``radius`` of the doubled index of a marked one.

    marked: (g, g, g) bool; resolution: of the finer grid. Returns (resolution + 1)³ bool. Works axis by axis, so
    that only the last pass touches the full size.
    """
    for axis in range(3):
        shape = list(marked.shape)
        shape[axis] = resolution + 1
        finer = torch.zeros(shape, dtype=torch.bool, device=marked.device)
        for offset in range(-radius, radius + 1):
            first = max(0, (1 - offset) // 2)  # smallest index whose target is not below 0
            last = min(marked.shape[axis] - 1, (resolution - offset) // 2)
            target = finer.narrow(axis, 2 * first + offset, 2 * (last - first) + 1)
            every_second = target[(slice(None),) * axis + (slice(None, None, 2),)]
            every_second |= marked.narrow(axis, first, last - first + 1)
        marked = finer
    return marked


def _pair(volume: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Views of all points but the last, and all but the first, along ``axis``."""
    length = volume.shape[axis] - 1
    return volume.narrow(axis, 0, length), volume.narrow(axis, 1, length)
