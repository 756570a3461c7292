"""Network weights of the recorded cases: small tensors are stored, large ones are given by an integer recipe."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn


def made(shape: list[int], seed: int, scale: float, offset: float) -> torch.Tensor:
    """The tensor that a recipe entry stands for (see the vectors' README: a hash of the flat index)."""
    count = int(np.prod(shape))
    x = np.arange(count, dtype=np.uint64) + np.uint64(seed * 2654435769 & 0xFFFFFFFF) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 2146121005), (15, 2221713035)):
        x ^= x >> np.uint64(shift)
        x = x * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    x ^= x >> np.uint64(16)
    values = (x.astype(np.float64) / 2**32 * 2 - 1) * scale + offset
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(module: nn.Module, stored: dict[str, torch.Tensor], recipe: dict[str, Any]) -> nn.Module:
    """Load a network's recorded weights, every key exactly once; returns it in evaluation mode."""
    assert not stored.keys() & recipe.keys()
    module.load_state_dict({**stored, **{key: made(**entry) for key, entry in recipe.items()}}, strict=True)
    return module.eval().requires_grad_(False)


def part(weights: dict[str, torch.Tensor], network: str) -> dict[str, torch.Tensor]:
    """The stored weights of one network of a file with several."""
    return {k.removeprefix(network + "."): v for k, v in weights.items() if k.startswith(network + ".")}
