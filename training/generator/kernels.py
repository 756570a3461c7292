"""What a fast generator can do, whichever way it is compiled, and which one a device has.

The CPU has numba (``loops``), CUDA has CuPy (``cuda``); both run the functions of ``scalar``. Elsewhere there is None,
and plain torch (``solids``, ``surface``, ``pictures``) does the same work, slowly.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hy3dgen.errors import UsageError

CHOICES = ("auto", "kernels", "torch")


class Parts(NamedTuple):
    """B shapes: rows (B, P, ROW_FLOATS) float32, counts (B,) int64, poses (B, POSE_FLOATS) float32."""

    rows: Tensor
    counts: Tensor
    poses: Tensor


class SceneRows(NamedTuple):
    """How they are photographed: cameras (B, 6), lights (B, 9), effects (B, EFFECT_FLOATS), materials (B, 8, 11)."""

    cameras: Tensor
    lights: Tensor
    effects: Tensor
    materials: Tensor


class Kernels(Protocol):
    """All tensors float32 on the kernels' device unless said otherwise; results are new."""

    def fold(self, parts: Parts, points: Tensor) -> tuple[Tensor, Tensor]:
        """Folded field, negative inside, and material (int64) at (B, N, 3): (B, N) each."""
        ...

    def field(self, parts: Parts, points: Tensor) -> Tensor:
        """Signed distance estimate, positive inside, at (B, N, 3): (B, N)."""
        ...

    def surface(self, parts: Parts, boxes: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """(B, count, 6) random surface points and normals, zeros where none was found, and (B, count) bool.
        boxes: (B, 6) corners around the shapes."""
        ...

    def through(
        self, parts: Parts, boxes: Tensor, points: Tensor, ways: Tensor, skips: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same for given rays: points and ways (B, N, 3), the crossings that count (B, N) int64."""
        ...

    def picture(self, parts: Parts, scene: SceneRows, halves: Tensor, size_px: int) -> Tensor:
        """(B, size, size, 4) uint8. halves: (B, 3) half sizes of the boxes, 0 = unknown."""
        ...

    def cells(self, parts: Parts, cameras: Tensor, halves: Tensor, size_px: int, cell_px: int) -> Tensor:
        """(B, size // cell, size // cell, 6) side targets."""
        ...

    def maps(self, parts: Parts, materials: Tensor, frames: Tensor, views: Tensor, size_px: int) -> Tensor:
        """(B, V, MAP_CHANNELS, size, size) uint8 of V orthographic views, see ``orthographic``. materials: (B, 8, 11);
        frames: (B, FRAME_FLOATS); views: (V, VIEW_FLOATS)."""
        ...


def kernels_for(device: torch.device, choice: str = "auto") -> Kernels | None:
    """The fast generator of a device; None = plain torch, also when CuPy is missing and ``choice`` is 'auto'.

    choice: a word of CHOICES. Raises UsageError when 'kernels' are asked for and there are none.
    """
    if choice == "torch":
        return None
    if device.type == "cpu":
        from training.generator.loops import CpuKernels

        return CpuKernels()
    if device.type == "cuda" and importlib.util.find_spec("cupy") is not None:
        from training.generator.cuda import CudaKernels

        return CudaKernels(device)
    if choice == "kernels":
        raise UsageError(f"there are no kernels for {device.type}; on CUDA they need CuPy (pip install cupy-cuda13x)")
    return None
