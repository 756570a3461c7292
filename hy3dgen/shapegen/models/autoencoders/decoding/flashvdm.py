"""Coarse to fine, each neighbourhood of points looking only at the latents that matter to it. Lossy by design.

Neighbourhoods are 4×4×4 blocks on the coarsest grid and the cells of a 6×6×6 partition of the marked points'
bounding box below. A neighbourhood selects its latents from a sample of its points in their order, so that order
is part of the result: the sort is stable.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hy3dgen.errors import UsageError
from hy3dgen.runtime.stages import steps
from hy3dgen.shapegen.models.autoencoders.attention_processors import (
    FlashVDMCrossAttentionProcessor,
    FlashVDMTopMCrossAttentionProcessor,
)
from hy3dgen.shapegen.models.autoencoders.decoding.field import Field
from hy3dgen.shapegen.models.autoencoders.decoding.hierarchical import next_points
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import (
    Bounds,
    Lattice,
    box_of,
    checked_chunk,
    checked_resolution,
    ladder_of,
)

PROCESSORS = {"mean": FlashVDMCrossAttentionProcessor, "merge": FlashVDMTopMCrossAttentionProcessor}
GROUPS_PER_AXIS = 6
GROUP_SPAN = GROUPS_PER_AXIS - 0.001  # so that the far end falls into the last group


class FlashVDMVolumeDecoding:
    """topk_mode: 'mean' keeps the latents with the largest mean score, 'merge' all that matter to any sampled point."""

    def __init__(self, topk_mode: str = "mean") -> None:
        if topk_mode not in PROCESSORS:
            raise UsageError(f"unknown topk_mode '{topk_mode}'; use 'mean' or 'merge'")
        self.topk_mode = topk_mode
        self.processor = PROCESSORS[topk_mode]()

    @torch.inference_mode()
    def __call__(
        self,
        latents: Tensor,
        geo_decoder: Any,
        bounds: Bounds = 1.01,
        num_chunks: int = 10000,
        mc_level: float = 0.0,
        octree_resolution: int | None = None,
        min_resolution: int = 63,
        mini_grid_num: int = 4,
        **kwargs: Any,
    ) -> Tensor:
        """latents: (B, N, width) features. Returns (B, g, g, g) float32 on the host, NaN where not evaluated.

        The grid has as many points as fit whole blocks: 384 asked for gives g = 381, 256 gives 253.
        geo_decoder: a CrossAttentionDecoder. Raises UsageError for an unusable value.
        """
        low, high = box_of(bounds)
        ladder = flash_ladder(checked_resolution(octree_resolution), min_resolution, mini_grid_num)
        chunk = checked_chunk(num_chunks)
        geo_decoder.set_cross_attention_processor(self.processor)
        try:
            grids = []
            for item in latents.split(1):
                field = Field(geo_decoder, item)
                grid = self._coarse(field, Lattice(low, high, ladder[0]), mini_grid_num, chunk)
                for finer in ladder[1:]:
                    marked = next_points(grid, finer, level=mc_level, last=finer == ladder[-1])
                    grid = torch.full((finer + 1,) * 3, float("nan"))
                    if len(marked):
                        grid.view(-1)[marked] = self._refined(field, Lattice(low, high, finer), marked, chunk)
                grids.append(grid)
            return torch.stack(grids)
        finally:
            geo_decoder.set_default_cross_attention_processor()

    def _coarse(self, field: Field, lattice: Lattice, per_axis: int, chunk: int) -> Tensor:
        """(g, g, g) float32 on the host; every block of s³ points selects its own latents."""
        size = lattice.size // per_axis
        flat = torch.arange(lattice.num_points).view(*(per_axis, size) * 3)
        blocks = flat.permute(0, 2, 4, 1, 3, 5).reshape(per_axis**3, size**3)
        axes = torch.from_numpy(lattice.axes).to(field.device)
        grid = torch.empty(lattice.num_points, dtype=torch.float32)
        at_once = max(chunk // size**3, 1)
        for start in steps(range(0, len(blocks), at_once), unit="chunk"):
            some = blocks[start : start + at_once]
            points = lattice.points(some.reshape(-1).to(field.device), axes).view(*some.shape, 3)
            self.processor.topk = True
            grid[some.reshape(-1)] = field(points.to(field.dtype)).reshape(-1).to(device="cpu", dtype=torch.float32)
        return grid.view((lattice.size,) * 3)

    def _refined(self, field: Field, lattice: Lattice, marked: Tensor, chunk: int) -> Tensor:
        """(n,) float32 on the host for the n marked flat indices; every group selects its own latents.

        Coordinates stay float32 up to their embedding here, unlike on the coarse grid.
        """
        points = refined_points(lattice, marked)
        order, counts = grouped(points)
        answers = torch.empty(len(marked), dtype=torch.float32)
        start = 0
        for run in steps(packed(counts, chunk), unit="chunk"):
            at = order[start : start + sum(run)]
            start += sum(run)
            self.processor.topk = (list(range(len(run))), run)
            values = field(points[at].to(field.device)[None])[0]
            answers[at] = values.to(device="cpu", dtype=torch.float32)
        return answers


def flash_ladder(resolution: int, min_resolution: int = 63, mini_grid_num: int = 4) -> list[int]:
    """Ascending resolutions whose first has a multiple of ``mini_grid_num`` points, each twice the one before."""
    ladder = ladder_of(resolution, min_resolution)
    first = round(ladder[0] / mini_grid_num) * mini_grid_num - 1
    if first < 1:
        raise UsageError(f"octree_resolution {resolution} is too small for FlashVDM; use at least 3, or dense decoding")
    return [first * 2**i for i in range(len(ladder))]


def refined_points(lattice: Lattice, flat: Tensor) -> Tensor:
    """(n, 3) float32 = minimum + index · step, all in float32: group borders depend on this rounding."""
    step = ((lattice.maximum - lattice.minimum) / lattice.resolution).astype("float32")
    indices = lattice.indices(flat).to(torch.float32)
    return indices * torch.from_numpy(step) + torch.from_numpy(lattice.minimum.astype("float32"))


def grouped(points: Tensor) -> tuple[Tensor, list[int]]:
    """(order, counts): a stable order of the (n, 3) points by group, and the sizes of the groups that have any."""
    low, high = points.amin(dim=0), points.amax(dim=0)
    span = torch.where(high > low, high - low, torch.ones_like(low))  # a flat axis is one group
    cell = ((points - low) / span * GROUP_SPAN).floor().to(torch.int64)
    group = (cell[:, 0] * GROUPS_PER_AXIS + cell[:, 1]) * GROUPS_PER_AXIS + cell[:, 2]
    counts = torch.bincount(group)
    return torch.argsort(group, stable=True), counts[counts > 0].tolist()


def packed(counts: list[int], chunk: int) -> list[list[int]]:
    """Consecutive counts packed into calls of fewer than ``chunk`` points; a single larger one is its own call."""
    calls: list[list[int]] = []
    room = 0
    for count in counts:
        if calls and count < room:
            calls[-1].append(count)
        else:
            calls.append([count])
            room = chunk
        room -= count
    return calls
