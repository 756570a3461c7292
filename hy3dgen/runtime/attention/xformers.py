"""xformers' memory-efficient attention (optional package, CUDA only)."""

from __future__ import annotations

from functools import cache

import torch

from hy3dgen.runtime.attention.optional import reason_not_importable
from hy3dgen.runtime.device import CUDA


def unavailable(device: torch.device) -> str | None:
    """Why it cannot serve this device, or None."""
    if device.type != CUDA:
        return "xformers works on CUDA devices only"
    return reason_not_importable("xformers.ops", "pip install xformers") or _reason_it_fails(device)


@cache
def _reason_it_fails(device: torch.device) -> str | None:
    """None when a small attention works. A wheel for another torch imports and only then has no kernel."""
    from xformers.ops import memory_efficient_attention

    q = torch.zeros(1, 8, 1, 64, device=device, dtype=torch.float16)
    try:
        memory_efficient_attention(q, q, q, attn_bias=None)
    except (NotImplementedError, RuntimeError) as error:
        built = f"a build of xformers for torch {torch.__version__} is needed"
        return f"xformers is installed but has no kernel that works here; {built}: {str(error).splitlines()[0]}"
    return None


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
