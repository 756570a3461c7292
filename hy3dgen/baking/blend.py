"""Merging projected views into one texture, one after the other, so that only the running sums are kept."""

from __future__ import annotations

import numpy as np
import torch

from hy3dgen.rendering.jit import compiled, run_bands

NOTHING_NEW = 0.99
"""A view is skipped when more than this share of its texels is already painted."""
TRUST_FLOOR = 1e-8


class Merge:
    """Trust-weighted sums of the views added so far.

    ``add`` takes a texture (T, T, C) and its trust (T, T, 1); ``result`` gives (texture (T, T, C) float32,
    painted (T, T, 1) bool). The order of the views matters, because a view that adds nothing new is skipped.
    """

    def __init__(self) -> None:
        self._colour: torch.Tensor | None = None
        self._trust: torch.Tensor | None = None
        self.skipped = 0

    def add(self, texture: torch.Tensor, trust: torch.Tensor) -> bool:
        """Add a view; False when it was skipped because others have painted its texels already."""
        if self._colour is None or self._trust is None:
            self._colour, self._trust = (
                torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (texture, trust)
            )
        on_cpu = texture.device.type == "cpu"
        if on_cpu:
            total, painted = _overlap(trust.numpy(), self._trust.numpy())
        else:
            seen = trust > 0
            total, painted = int(seen.sum()), int((seen & (self._trust > 0)).sum())
        if total and painted / total > NOTHING_NEW:
            self.skipped += 1
            return False
        if on_cpu:
            sums = (self._colour.numpy(), self._trust.numpy())
            run_bands(_add_band, len(texture), texture.numpy(), trust.numpy(), *sums)
        else:
            self._colour += texture * trust
            self._trust += trust
        return True

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What has been painted; texels without trust are 0 and not marked."""
        if self._colour is None or self._trust is None:
            raise RuntimeError("no view was added")
        return self._colour / self._trust.clamp(min=TRUST_FLOOR), self._trust > TRUST_FLOOR


@compiled
def _overlap(trust, painted):
    """Texels that a view sees, and how many of those are painted already."""
    total, both = 0, 0
    for row in range(trust.shape[0]):
        for column in range(trust.shape[1]):
            if trust[row, column, 0] > 0:
                total += 1
                if painted[row, column, 0] > 0:
                    both += 1
    return total, both


@compiled
def _add_band(first, end, texture, trust, colours, sums):
    for row in range(first, end):
        for column in range(trust.shape[1]):
            weight = trust[row, column, 0]
            if weight != np.float32(0):
                sums[row, column, 0] += weight
                for k in range(texture.shape[2]):
                    colours[row, column, k] += texture[row, column, k] * weight
