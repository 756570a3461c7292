"""Pairing the tokens of noise and data, which the networks treat as sets. An ablation; off unless asked for."""

from __future__ import annotations

import torch
from torch import Tensor


def kd_order(tokens: Tensor, axes: int) -> Tensor:
    """(B, N) int64: the order of a balanced kd-tree over the first ``axes`` channels. tokens: (B, N, C), N = 2^k."""
    batch, count, _ = tokens.shape
    order = torch.arange(count, device=tokens.device).expand(batch, count)
    for level in range(count.bit_length() - 1):
        cells = 1 << level
        values = tokens[..., level % axes].gather(1, order).view(batch, cells, -1)
        order = order.view(batch, cells, -1).gather(2, values.argsort(dim=2)).view(batch, count)
    return order


def coupled(noise: Tensor, data: Tensor, basis: Tensor) -> Tensor:
    """The data's tokens in the order that meets the noise leaf by leaf. noise, data: (B, N, C); basis: (C, C), columns
    are the data's principal axes, leading first."""
    axes = min(8, basis.shape[1])
    of_noise, of_data = kd_order(noise @ basis, axes), kd_order(data @ basis, axes)
    source = torch.empty_like(of_noise).scatter_(1, of_noise, of_data)
    return data.gather(1, source[..., None].expand_as(data))


def principal_axes(latents: Tensor) -> Tensor:
    """(C, C) basis for ``coupled``. latents: (…, C)."""
    flat = latents.float().flatten(0, -2)
    return torch.linalg.eigh(flat.T.cov())[1].flip(1)
