"""Choice of the attention back end."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import os
from collections.abc import Iterator
from typing import Protocol, cast

import torch

from hy3dgen.errors import MissingExtraError, UsageError
from hy3dgen.runtime.attention import sdpa

BACKENDS = ("auto", "sdpa", "xformers", "sage", "flash", "sliced")
ENVIRONMENT = "ATTN_BACKEND"
_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("attention_backend", default=None)


class Backend(Protocol):
    """What every file of this folder that answers for a back end offers."""

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None
    ) -> torch.Tensor: ...

    def unavailable(self, device: torch.device) -> str | None: ...


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None = None) -> torch.Tensor:
    """softmax(q·kᵀ/√D)·v.

    q: (B, H, N, D); k, v: (B, H, M, D); one dtype and device. mask: broadcastable to (B, H, N, M), bool (True = look)
    or added to the scores. Returns (B, H, N, D) in q's dtype.
    Raises UsageError for an unknown back end, MissingExtraError for one that cannot be used here.
    """
    name = resolve_backend(None, q.device)
    if name == "sdpa":  # no import inside a compiled graph
        return sdpa.attend(q, k, v, mask=mask)
    return _backend(name).attend(q, k, v, mask=mask)


def resolve_backend(name: str | None, device: torch.device) -> str:
    """The back end that will answer on this device.

    name: one of BACKENDS; None for the one in force (``use_backend``, else ATTN_BACKEND, else 'auto').
    'auto' is xformers when it is installed and supports the device, else torch's SDPA.
    Raises UsageError for an unknown name, MissingExtraError for a back end that cannot be used here.
    """
    name = name or _chosen.get() or os.environ.get(ENVIRONMENT) or "auto"
    _check(name)
    if name == "auto":
        return "xformers" if _backend("xformers").unavailable(device) is None else "sdpa"
    reason = _backend(name).unavailable(device)
    if reason is not None:
        raise MissingExtraError(f"attention back end '{name}' cannot be used: {reason}", package=name)
    return name


def availability(device: torch.device) -> dict[str, str | None]:
    """Every back end with the reason why it cannot be used on this device, None where it can."""
    return {name: _backend(name).unavailable(device) for name in BACKENDS if name != "auto"}


@contextlib.contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Use this back end for every ``attend`` inside; None leaves the choice as it is."""
    if name is None:
        yield
        return
    _check(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def _check(name: str) -> None:
    if name not in BACKENDS:
        raise UsageError(f"unknown attention back end '{name}'; use one of {', '.join(BACKENDS)}")


def _backend(name: str) -> Backend:
    return cast(Backend, importlib.import_module(f"hy3dgen.runtime.attention.{name}"))
