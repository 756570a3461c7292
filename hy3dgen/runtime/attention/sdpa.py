"""torch's own scaled dot-product attention: memory-efficient or flash kernels where the device has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

READY_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def unavailable(device: torch.device) -> str | None:
    """None: torch always has it."""
    return None


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``hy3dgen.runtime.attention.attend``."""
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


@contextlib.contextmanager
def ready_kernels() -> Iterator[None]:
    """Only kernels that lie ready: cuDNN's attention, which torch prefers on recent GPUs, is planned for each shape.

    For loops of few steps over many shapes, as in a UNet: planning takes longer there than the faster kernel saves.
    """
    with sdpa_kernel(READY_KERNELS):
        yield
