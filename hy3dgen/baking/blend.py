"""Merging projected views into one texture, one after the other, so that only the running sums are kept."""

from __future__ import annotations

import torch

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
            self._colour, self._trust = torch.zeros_like(texture), torch.zeros_like(trust)
        seen = trust > 0
        total = int(seen.sum())
        painted = int((seen & (self._trust > 0)).sum())
        if total and painted / total > NOTHING_NEW:
            self.skipped += 1
            return False
        self._colour += texture * trust
        self._trust += trust
        return True

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What has been painted; texels without trust are 0 and not marked."""
        if self._colour is None or self._trust is None:
            raise RuntimeError("no view was added")
        return self._colour / self._trust.clamp(min=TRUST_FLOOR), self._trust > TRUST_FLOOR
