"""torch's own scaled dot-product attention: memory-efficient or flash kernels where the device has them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

READY_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
ALL_KERNELS = [SDPBackend.CUDNN_ATTENTION, *READY_KERNELS]
PLANNING_PAYS = 10**11
"""Products of queries, keys, heads and channels in a call, from which planning pays within some dozens of steps.

Measured on an H100 with torch 2.11: planning takes 50 ms a shape, in every thread anew; a call of 1.9e11 takes 1.65
instead of 2.66 ms then, one of 3.2e10 0.30 instead of 0.46 ms.
"""
_least_planned: contextvars.ContextVar[int] = contextvars.ContextVar("least_planned_attention", default=0)


def unavailable(device: torch.device) -> str | None:
    """None: torch always has it."""
    return None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``."""
    if not torch.compiler.is_compiling() and 0 < _least_planned.get() <= q.numel() * k.shape[2]:
        with sdpa_kernel(ALL_KERNELS):
            return scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


@contextlib.contextmanager
def ready_kernels() -> Iterator[None]:
    """Only kernels that lie ready, but for large calls: cuDNN's attention, which torch prefers on recent GPUs, is
    planned for each shape.

    For loops of some dozens of steps over many shapes, as in a UNet: planning takes longer there than the faster
    kernel saves (see PLANNING_PAYS).
    """
    token = _least_planned.set(PLANNING_PAYS)
    try:
        with sdpa_kernel(READY_KERNELS):
            yield
    finally:
        _least_planned.reset(token)
