"""A simulated device allocator: counts what is held, remembers the peak, and can be made too small."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor


class CountedMemory:
    """Host memory that pretends to be a device's. limit_bytes: OutOfMemoryError above it."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.held = self.peak = 0

    def bytes(self, size: int) -> Tensor:
        return self._count(torch.empty(size, dtype=torch.uint8), size)

    def copy_of(self, tensor: Tensor) -> Tensor:
        return self._count(tensor.clone(), tensor.nbytes)

    def _count(self, tensor: Tensor, size: int) -> Tensor:
        if self.limit_bytes is not None and self.held + size > self.limit_bytes:
            raise torch.OutOfMemoryError(f"simulated device out of memory. {size} bytes asked, {self.held} held")
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(tensor.untyped_storage(), self._give_back, size)
        return tensor

    def _give_back(self, size: int) -> None:
        self.held -= size
