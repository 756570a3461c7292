"""Seconds that nobody can set back."""

from __future__ import annotations

from time import perf_counter


class Stopwatch:
    """Counts seconds from its creation."""

    def __init__(self) -> None:
        self._start = perf_counter()

    @property
    def elapsed_s(self) -> float:
        return perf_counter() - self._start
