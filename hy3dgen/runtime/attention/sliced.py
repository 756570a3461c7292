"""Plain attention over slices of the queries: for devices without a memory-efficient kernel.

Bounds the score matrix, at the price of a pass over all keys per slice. Where SDPA has a fused kernel, this needs
more memory and time than SDPA, so nothing chooses it unasked there.
"""

from __future__ import annotations

import math

import torch

SCORE_BYTES = 64 << 20


def unavailable(device: torch.device) -> str | None:
    """None: it is made of ordinary operations."""
    return None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``; scores of at most 64 MiB exist at a time (one query row at least)."""
    batch, heads, num_queries, width = q.shape
    row_bytes = batch * heads * k.shape[2] * max(q.element_size(), 4)
    rows = max(1, min(num_queries, SCORE_BYTES // max(row_bytes, 1)))
    keys = (k / math.sqrt(width)).transpose(-1, -2)
    out = torch.empty(batch, heads, num_queries, v.shape[-1], dtype=q.dtype, device=q.device)
    for start in range(0, num_queries, rows):
        scores = q[:, :, start : start + rows] @ keys
        if mask is not None:
            scores = _masked(scores, _rows(mask, start, rows, num_queries))
        # Softmax in float32 inside, result back in the values' type, as the fused kernels do.
        out[:, :, start : start + rows] = scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
    return out


def _rows(mask: torch.Tensor, start: int, rows: int, num_queries: int) -> torch.Tensor:
    has_rows = mask.dim() >= 2 and mask.shape[-2] == num_queries and num_queries > 1
    return mask[..., start : start + rows, :] if has_rows else mask


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
