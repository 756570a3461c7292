"""How long jobs take, learnt from those that have been done. Numbers only."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

REMEMBERED = 20


class Estimates:
    """Seconds of earlier jobs, by fingerprint ('kind/model/texture/…', general parts first)."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}
        self._stages: dict[str, dict[str, float]] = {}

    def learn(self, fingerprint: str, seconds: float, stages: Mapping[str, float]) -> None:
        """Remember a job that was done."""
        for key in _general_to_special(fingerprint):
            self._seconds.setdefault(key, deque(maxlen=REMEMBERED)).append(seconds)
        self._stages[fingerprint] = dict(stages)

    def seconds(self, fingerprint: str) -> float | None:
        """What such a job usually takes; from the nearest kind that has been seen, None when none has."""
        for key in reversed(_general_to_special(fingerprint)):
            if key in self._seconds:
                return median(self._seconds[key])
        return None

    def stages(self, fingerprint: str) -> Mapping[str, float] | None:
        """Seconds of each stage of the last such job, None when there was none."""
        return self._stages.get(fingerprint)


def fingerprint_of(kind: str, options: Mapping[str, Any]) -> str:
    """What decides how long a job takes, general parts first."""
    names = ("model", "texture", "octree_resolution", "steps", "texture_size", "vram")
    return "/".join([kind, *(str(options.get(name, "")) for name in names)])


def _general_to_special(fingerprint: str) -> list[str]:
    parts = fingerprint.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]
