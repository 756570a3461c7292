"""What a training step sees: colours varied together, the first guess, targets continued beyond the object."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hy3dgen.texgen.guess import Guess, continued, first_guess
from training.paint.pool import Batch

FIT_ERROR = 0.015
"""Spread of how wrong a picture may lie over its silhouette, as a share of the outline's box."""

GAINS = 0.3
"""How far colours are varied where scenes are used again and again."""

UNSEEN = 0.05
"""What the picture shows less well than this (see ``Guess.seen``) counts as unseen."""


@dataclass(frozen=True)
class Prepared:
    """batch: as drawn, colours varied; guess: see ``texgen.guess``; target: (B, 6, 3, S, S) albedo, continued."""

    batch: Batch
    guess: Guess
    target: Tensor

    @property
    def unseen(self) -> Tensor:
        """(B, 6, S, S) bool: pixels of the object that the picture does not show."""
        return self.guess.covered & (self.guess.seen < UNSEEN)


def prepared(batch: Batch, generator: torch.Generator | None = None, *, gains: float = GAINS) -> Prepared:
    """Everything a step needs; with a generator varied (see ``varied``) and a little misplaced, without one exact."""
    jitter = None
    if generator is not None:
        batch = varied(batch, generator, gains=gains)
        jitter = FIT_ERROR * torch.randn(len(batch), 4, generator=generator, device=batch.picture.device)
    guess = first_guess(batch.normals, batch.positions, batch.picture, jitter=jitter)
    return Prepared(batch, guess, continued(batch.albedo, guess.covered))


def varied(batch: Batch, generator: torch.Generator, *, gains: float = GAINS) -> Batch:
    """Channels swapped and gains changed in picture and albedo alike (other palettes, the same light), and the
    picture's noise. gains: spread of the gains, a little more down than up; 0 leaves colours as they are drawn"""
    device, size = batch.picture.device, len(batch)
    order = torch.rand(size, 3, generator=generator, device=device).argsort(1)
    gain = 1 + gains * (torch.rand(size, 3, 1, 1, generator=generator, device=device) - 0.6)
    colours = batch.picture[:, :3].gather(1, order[..., None, None].expand(-1, -1, *batch.picture.shape[2:]))
    noise = torch.randn(colours.shape, generator=generator, device=device)
    strength = 0.03 * torch.rand(size, 1, 1, 1, generator=generator, device=device)
    colours = (colours * gain + noise * strength).clamp(0, 1)
    wide = order[:, None, :, None, None].expand_as(batch.albedo)
    albedo = (batch.albedo.gather(2, wide) * gain[:, None]).clamp(0, 1)
    return replace(batch, albedo=albedo, picture=torch.cat([colours, batch.picture[:, 3:]], 1))


def on_white(picture: Tensor) -> Tensor:
    """(B, 4, S, S) → (B, 3, S, S), what the reference stream sees."""
    return picture[:, :3] * picture[:, 3:] + (1 - picture[:, 3:])
