"""Compiled loops for the CPU: numba without the interpreter lock, kept on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call; the result is kept on disk where numba finds a folder that it may write."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no cache folder, as on a read-only installation
        return njit(nogil=True)(function)
