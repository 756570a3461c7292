"""Choice of the attention back end."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import os
from collections.abc import Iterator

import torch

from hy3dgen.errors import UsageError

BACKENDS = ("auto", "sdpa", "xformers", "sage", "flash", "sliced")
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("attention_backend", default=None)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q·kᵀ/√D)·v.

    q: (B, H, N, D); k, v: (B, H, M, D); one dtype and device. mask: broadcastable to (B, H, N, M), bool (True = look)
    or added to the scores. Returns (B, H, N, D) in q's dtype.
    """
    name = resolve_backend(_chosen.get() or os.environ.get("ATTN_BACKEND") or "auto", q.device)
    backend = importlib.import_module(f"hy3dgen.runtime.attention.{name}")
    return backend.attend(q, k, v, mask=mask)


def resolve_backend(name: str, device: torch.device) -> str:
    """The back end that ``name`` means on this device. Raises UsageError for an unknown name."""
    if name not in BACKENDS:
        raise UsageError(f"unknown attention back end '{name}'; use one of {', '.join(BACKENDS)}")
    return "sdpa" if name == "auto" else name


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Use this back end for every ``attend`` inside; None leaves the choice as it is."""
    if name is None:
        yield
        return
    if name not in BACKENDS:
        raise UsageError(f"unknown attention back end '{name}'; use one of {', '.join(BACKENDS)}")
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)
