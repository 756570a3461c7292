"""Position masks and voxel indices of the turbo training code.

Kept because they are public names with recorded numbers; no pipeline of this package uses them (the network never
reads them). All arithmetic is in half precision, as the recorded numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hy3dgen.errors import UsageError

MIN_PIXELS = 5  # cells with fewer valid pixels count as the origin


def compute_voxel_grid_mask(position: Tensor, grid_resolution: int = 8) -> Tensor:
    """Which grid cells of two views lie close to each other in space.

    position: (B, N, 3, H, W) in [0, 1], background exactly 1; H and W multiples of grid_resolution
    Returns (B, N, N, g², g²) bool, cells row by row.
    """
    return _near(_cells(position.to(torch.float16, copy=True), grid_resolution), grid_resolution)


def compute_multi_resolution_mask(
    position_maps: Tensor, grid_resolutions: Sequence[int] = (32, 16, 8)
) -> dict[int, Tensor]:
    """Masks at several grids: {N·g²: (B, N·g², N·g²) bool}, rows (view, cell), columns likewise.

    As in the reference, half-precision maps have a valid background (the origin) from the second grid on.
    """
    masks = {}
    for grid, means in _all_cells(position_maps, grid_resolutions):
        mask = _near(means, grid).permute(0, 1, 3, 2, 4).flatten(1, 2).flatten(2, 3)
        masks[mask.shape[1]] = mask
    return masks


def compute_discrete_voxel_indice(position: Tensor, grid_resolution: int = 8, voxel_resolution: int = 128) -> Tensor:
    """The voxel that each grid cell lies in: (B, N, 3, g, g) int64 in [0, voxel_resolution - 1]."""
    return _voxels(_cells(position.to(torch.float16, copy=True), grid_resolution), voxel_resolution)


def compute_multi_resolution_discrete_voxel_indice(
    position_maps: Tensor,
    grid_resolutions: Sequence[int] = (64, 32, 16, 8),
    voxel_resolutions: Sequence[int] = (512, 256, 128, 64),
) -> dict[int, dict[str, Any]]:
    """Voxels at several grids: {N·g²: {'voxel_indices': (B, N·g², 3), 'voxel_resolution': v}}."""
    found = {}
    for (_, means), resolution in zip(_all_cells(position_maps, grid_resolutions), voxel_resolutions, strict=True):
        indices = _voxels(means, resolution).permute(0, 1, 3, 4, 2).flatten(1, 3)
        found[indices.shape[1]] = {"voxel_indices": indices, "voxel_resolution": resolution}
    return found


def without_background(position: Tensor) -> Tensor:
    """A half-precision copy with the background (any channel exactly 1) at 0: what the reference leaves behind in
    half-precision maps that went through one of these functions."""
    half = position.to(torch.float16, copy=True)
    return half * (half != 1).all(dim=2, keepdim=True)


def _all_cells(maps: Tensor, grids: Sequence[int]) -> list[tuple[int, Tensor]]:
    later = without_background(maps) if maps.dtype == torch.float16 else maps
    return [(grid, _cells((later if i else maps).to(torch.float16), grid)) for i, grid in enumerate(grids)]


def _cells(position: Tensor, grid: int) -> Tensor:
    """Mean position of each cell's valid pixels: (B, N, 3, g, g) half."""
    height, width = position.shape[-2:]
    if height % grid or width % grid:
        raise UsageError(f"position maps of {height} x {width} px cannot be cut into {grid} x {grid} equal cells")
    valid = (position != 1).all(dim=2, keepdim=True)
    cut = (grid, height // grid, grid, width // grid)
    total = (position * valid).unflatten(-1, cut[2:]).unflatten(-3, cut[:2]).sum(dim=(-3, -1))
    count = valid.to(position).unflatten(-1, cut[2:]).unflatten(-3, cut[:2]).sum(dim=(-3, -1))
    return (total / count.clamp(min=1)) * (count >= MIN_PIXELS)


def _near(means: Tensor, grid: int) -> Tensor:
    points = means.flatten(3).transpose(2, 3)  # (B, N, g², 3)
    apart = points[:, :, None, :, None] - points[:, None, :, None, :]
    return apart.norm(dim=-1) < 1.73 / grid


def _voxels(means: Tensor, resolution: int) -> Tensor:
    return (means.clamp(0, 1) * (resolution - 1)).round().long()
