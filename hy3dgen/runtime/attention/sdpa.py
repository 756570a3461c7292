"""torch's own scaled dot-product attention: memory-efficient or flash kernels where the device has them."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention


def unavailable(device: torch.device) -> str | None:
    """None: torch always has it."""
    return None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``."""
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)
