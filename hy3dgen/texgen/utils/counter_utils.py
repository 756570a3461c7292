"""RunningStats: not carried over from the reference, whose pipelines never use them."""

from __future__ import annotations

from typing import Any

from hy3dgen.errors import MissingExtraError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingExtraError(
        f"counters (counter_utils.{name}) is not part of this package; use numpy's mean, min and max"
    )
