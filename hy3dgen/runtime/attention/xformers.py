"""xformers' memory-efficient attention (optional package, CUDA only)."""

from __future__ import annotations

import torch

from hy3dgen.runtime.attention.optional import reason_not_importable
from hy3dgen.runtime.device import CUDA


def unavailable(device: torch.device) -> str | None:
    """Why it cannot serve this device, or None."""
    if device.type != CUDA:
        return "xformers works on CUDA devices only"
    return reason_not_importable("xformers.ops", "pip install xformers")


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``. xformers wants (B, N, H, D) and an additive mask of full shape."""
    from xformers.ops import memory_efficient_attention

    bias = None
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, float("-inf"))
        bias = mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    out = memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_bias=bias)
    return out.transpose(1, 2)
