"""Random numbers without seeding the process: generators are made here and passed along."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed, so that every device draws the same noise."""
    import torch

    return torch.Generator(device="cpu").manual_seed(seed)
