"""SageAttention: 8-bit scores (optional package, CUDA only). *Lossy*: never chosen unless asked for by name."""

from __future__ import annotations

import torch

from hy3dgen.runtime.attention import sdpa
from hy3dgen.runtime.attention.optional import reason_not_importable
from hy3dgen.runtime.device import CUDA

HEAD_WIDTHS = (64, 96, 128)


def unavailable(device: torch.device) -> str | None:
    """Why it cannot serve this device, or None."""
    if device.type != CUDA:
        return "sageattention works on CUDA devices only"
    return reason_not_importable("sageattention", "pip install sageattention")


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``; masks, float32 and head widths it has no kernel for go to SDPA."""
    if mask is not None or q.dtype == torch.float32 or q.shape[-1] not in HEAD_WIDTHS:
        return sdpa.attend(q, k, v, mask=mask)
    from sageattention import sageattn

    return sageattn(q, k, v, tensor_layout="HND", is_causal=False)
