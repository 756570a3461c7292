"""The flash-attn package (optional, CUDA only, half precision)."""

from __future__ import annotations

import torch

from hy3dgen.runtime.attention import sdpa
from hy3dgen.runtime.attention.optional import reason_not_importable
from hy3dgen.runtime.device import CUDA


def unavailable(device: torch.device) -> str | None:
    """Why it cannot serve this device, or None."""
    if device.type != CUDA:
        return "flash-attn works on CUDA devices only"
    return reason_not_importable("flash_attn", "pip install flash-attn --no-build-isolation")


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``; masks and float32 go to SDPA. flash-attn wants (B, N, H, D)."""
    if mask is not None or q.dtype == torch.float32 or q.shape[-1] > 256:
        return sdpa.attend(q, k, v, mask=mask)
    from flash_attn import flash_attn_func

    return flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
