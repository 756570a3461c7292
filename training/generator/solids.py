"""A batch of shapes as tensors, and their signed fields at many points.

The same folding as ``benchmarks.shapes.folding``: parts of one type are evaluated together, whatever shape they belong
to; then all shapes fold slot by slot. No loop over shapes. Plain torch, for any device; where there are
``kernels`` these answer instead (equality is tested).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from benchmarks.shapes import primitives as columns
from benchmarks.shapes.folding import FAR_OUTSIDE, GRADIENT_STEP, POSE_FLOATS, SUBTRACTION, UNION
from hy3dgen.errors import UsageError
from training.generator.kernels import Kernels, Parts
from training.generator.primitives import DISTANCES

# Values of one intermediate tensor: points are taken in pieces so that about twenty of them fit into device memory.
PIECE_VALUES = 64 * 2**20
# Corners of the tetrahedron that gives value and gradient, as in ``folding.gradient``.
CORNERS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))
SLOPE_RANGE = (0.35, 1.5)
NEAR = 0.25


@dataclass(frozen=True)
class _Group:
    """The parts of one type: rows (K, ROW_FLOATS) and, for each, its shape and its slot, (K,) int64.

    repeated: they have n-fold copies about y
    """

    kind: int
    repeated: bool
    rows: Tensor
    shape: Tensor
    slot: Tensor


@dataclass(frozen=True, eq=False)
class Solids:
    """B shapes in the model's frame (see ``benchmarks.shapes.shape.Shape``).

    rows: (B, P, ROW_FLOATS) parts in folding order; counts: (B,) int64, how many of the P are used;
    poses: (B, POSE_FLOATS); kernels: what evaluates float32 shapes faster, None = plain torch
    """

    rows: Tensor
    counts: Tensor
    poses: Tensor
    kernels: Kernels | None = field(default=None)

    @classmethod
    def pack(
        cls,
        rows: list[np.ndarray],
        poses: list[np.ndarray],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Solids:
        """rows: one (n, ROW_FLOATS) a shape; poses: one (POSE_FLOATS,) a shape. Raises UsageError for no shapes."""
        if not rows or len(rows) != len(poses):
            raise UsageError(f"a batch needs as many poses as lists of parts, at least one; got {len(rows)} lists")
        most = max(len(item) for item in rows)
        padded = np.zeros((len(rows), most, columns.ROW_FLOATS))
        for index, item in enumerate(rows):
            padded[index, : len(item)] = item
        counts = torch.tensor([len(item) for item in rows])
        packed, stacked = (torch.from_numpy(values).to(device, dtype) for values in (padded, np.stack(poses)))
        return cls(packed, counts.to(device), stacked)

    def __len__(self) -> int:
        return self.rows.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Solids:
        """Some of the shapes: a slice, or (b,) int64 indices or bool on the same device. Unused slots are dropped."""
        counts = self.counts[index]
        most = max(int(counts.max()), 1) if len(counts) else 1
        return replace(self, rows=self.rows[index][:, :most], counts=counts, poses=self.poses[index])

    @property
    def parts(self) -> Parts:
        """What kernels take."""
        return Parts(self.rows, self.counts, self.poses)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Solids:
        """The same shapes elsewhere, in plain torch."""
        dtype = dtype or self.rows.dtype
        rows, poses = self.rows.to(device, dtype), self.poses.to(device, dtype)
        return replace(self, rows=rows, counts=self.counts.to(device), poses=poses, kernels=None)

    def with_poses(self, poses: Tensor) -> Solids:
        """The same parts, turned, centred or scaled otherwise; poses: (B, POSE_FLOATS)."""
        if poses.shape != (len(self), POSE_FLOATS):
            raise UsageError(f"poses of {len(self)} shapes are ({len(self)}, {POSE_FLOATS}), got {tuple(poses.shape)}")
        return replace(self, poses=poses)

    @cached_property
    def _groups(self) -> list[_Group]:
        slots = torch.arange(self.rows.shape[1], device=self.rows.device)
        used = slots < self.counts[:, None]
        shape, slot = used.nonzero(as_tuple=True)
        rows = self.rows[shape, slot]
        kinds = 2 * rows[:, columns.TYPE].long() + (rows[:, columns.REPEAT] > 1.5).long()
        order = kinds.argsort(stable=True)
        sizes = torch.bincount(kinds, minlength=2 * len(DISTANCES)).tolist()
        parts = (rows[order].split(sizes), shape[order].split(sizes), slot[order].split(sizes))
        found = enumerate(zip(*parts, strict=True))
        return [_Group(number // 2, number % 2 == 1, *item) for number, item in found if len(item[0])]

    def object_frame(self, points: Tensor) -> Tensor:
        """(B, N, 3) of the model's frame → the frame the parts were written in."""
        moved = points * self.poses[:, None, 12:13] + self.poses[:, None, 9:12]
        return moved @ self.poses[:, :9].view(-1, 3, 3).transpose(1, 2)

    def fold(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """points: (B, N, 3). Returns the folded field (B, N), negative inside and no exact distance everywhere, and
        the material of the nearest part (B, N) int64."""
        if self.kernels is not None:
            return self.kernels.fold(self.parts, points)
        batch, count, _ = points.shape
        per_point = max(sum(len(group.rows) for group in self._groups), batch * self.rows.shape[1], 1)
        piece = max(PIECE_VALUES // per_point, 1)
        if count > piece:
            parts = [self.fold(part) for part in points.split(piece, dim=1)]
            return torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1)
        local = self.object_frame(points)
        distances = local.new_full((batch, self.rows.shape[1], count), FAR_OUTSIDE)
        bounds = torch.full_like(distances, math.inf)  # unused slots lie infinitely far away
        for group in self._groups:
            at = local[group.shape].unbind(-1)
            values, least = _part_distances(group.kind, group.repeated, group.rows, *at)
            distances[group.shape, group.slot] = values
            bounds[group.shape, group.slot] = least
        total, material = _combine(self.rows, distances, bounds)
        return total / self.poses[:, 12:13], material

    def gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Value (B, N) and gradient (B, N, 3) of the folded field, from the corners of a small tetrahedron."""
        corners = points.new_tensor(CORNERS)
        count = points.shape[1]
        around = (points[:, None] + GRADIENT_STEP * corners[:, None]).flatten(1, 2)  # (B, 4·N, 3)
        values = self.fold(around)[0].view(-1, 4, count)
        slopes = torch.einsum("bkn,kc->bnc", values, corners) / (4 * GRADIENT_STEP)
        return values.mean(1), slopes

    def field(self, points: Tensor) -> Tensor:
        """Signed distance estimate (B, N) at (B, N, 3), positive inside: near the surface the folded value divided by
        its slope, kept in SLOPE_RANGE."""
        if self.kernels is not None:
            return self.kernels.field(self.parts, points)
        value = self.fold(points)[0]
        slope = self.gradient(points)[1].norm(dim=-1).clamp(*SLOPE_RANGE)
        return -torch.where(value.abs() < NEAR, value / slope, value)


def _combine(rows: Tensor, distances: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """rows: (B, P, ROW_FLOATS); distances, least possible distances: (B, P, N). Returns field and material, (B, N)."""
    total = torch.full_like(distances[:, 0], FAR_OUTSIDE)
    material = torch.zeros_like(total, dtype=torch.int64)
    for slot in range(distances.shape[1]):
        row = rows[:, slot, :, None]
        blend, operation = row[:, columns.BLEND].clamp_min(1e-6), row[:, columns.OPERATION]
        cut, blended = operation == SUBTRACTION, operation != UNION
        d = distances[:, slot]
        turned = torch.where(cut, -total, total)  # a subtraction is a blended union with the field turned inside out
        reach = bounds[:, slot] <= turned + blend
        wins = reach & (d < turned)
        h = torch.where(blended, (blend - (turned - d).abs()).clamp_min(0) / blend, 0.0)
        united = torch.minimum(turned, d) - h * h * blend * 0.25
        total = torch.where(reach, torch.where(cut, -united, united), total)
        material = torch.where(wins, row[:, columns.MATERIAL].long(), material)
    return total, material


def _part_distances(kind: int, repeated: bool, rows: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """x, y, z: (K, N) in the frames of the parts' shapes. Returns distances and distances to the bounding spheres."""
    x, y, z = _to_first_copy(rows, x, y, z, repeated)
    centre = rows[:, columns.CENTRE : columns.CENTRE + 3, None]
    x, y, z = x - centre[:, 0], y - centre[:, 1], z - centre[:, 2]
    least = (x * x + y * y + z * z).sqrt() - rows[:, columns.BOUND, None]
    r = rows[:, columns.ROTATION : columns.ROTATION + 9, None]
    own = [r[:, 3 * i] * x + r[:, 3 * i + 1] * y + r[:, 3 * i + 2] * z for i in range(3)]
    values = DISTANCES[kind](rows[:, columns.PARAMETER : columns.BOUND], *own)
    return values - rows[:, columns.INFLATE, None], least


def _to_first_copy(rows: Tensor, x: Tensor, y: Tensor, z: Tensor, repeated: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Fold space into a part's mirror planes (1: x, 2: z, 3: both) and n-fold rotation about y."""
    mirror = rows[:, columns.MIRROR, None]
    x = torch.where((mirror == 1) | (mirror == 3), x.abs(), x)
    z = torch.where(mirror >= 2, z.abs(), z)
    if not repeated:
        return x, y, z
    angle = 2 * math.pi / rows[:, columns.REPEAT, None]
    theta = torch.atan2(z, x)
    theta = theta - angle * (theta / angle + 0.5).floor()
    length = torch.hypot(x, z)
    return length * theta.cos(), y, length * theta.sin()
