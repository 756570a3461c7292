"""How far a run is, by the clock or by steps, and the learning rate there.

A piece of training is given minutes, not steps: it has to end in time on any machine. Steps are for tests and for
runs that must repeat exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """How far a piece of training is."""

    def begin(self) -> None:
        """Everything is compiled: training begins."""
        ...

    def pause(self, seconds: float) -> None:
        """So many seconds were not training."""
        ...

    def share(self, step: int) -> float:
        """0 at the start, 1 when it should end; ``step``: steps that were made."""
        ...

    def spent_s(self) -> float:
        """Seconds of training so far, earlier parts of an interrupted piece included."""
        ...


class ByTime:
    """Ends after so many minutes of training; ``pause`` leaves out what is not training, such as evaluation."""

    def __init__(self, minutes: float, *, spent_s: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self._total_s, self._now = minutes * 60, now
        self._spent_s = spent_s
        self._start = now() - spent_s

    def begin(self) -> None:
        """The clock starts now; what came before (compilation) does not count."""
        self._start = self._now() - self._spent_s

    def share(self, step: int) -> float:
        return self.spent_s() / self._total_s

    def spent_s(self) -> float:
        return self._now() - self._start

    def pause(self, seconds: float) -> None:
        """Do not count the last ``seconds``."""
        self._start += seconds


class Until:
    """Ends at a moment, whatever the start took; the piece is what lies between ``begin`` and it. For a machine that is
    lent for so many minutes, compilation and evaluation included."""

    def __init__(self, end_s: float, *, now: Callable[[], float] = time.time) -> None:
        self._end, self._now = end_s, now
        self._start = now()

    def begin(self) -> None:
        self._start = self._now()

    def share(self, step: int) -> float:
        return self.spent_s() / max(self._end - self._start, 1e-3)

    def spent_s(self) -> float:
        return self._now() - self._start

    def pause(self, seconds: float) -> None:
        """Nothing: the end does not move."""


class BySteps:
    """Ends after so many steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def begin(self) -> None:
        """Nothing: steps know no time."""

    def share(self, step: int) -> float:
        return step / self._steps

    def spent_s(self) -> float:
        return 0.0

    def pause(self, seconds: float) -> None:
        """Nothing: steps know no time."""


@dataclass(frozen=True)
class Schedule:
    """rate: the constant rate; decay: share of the piece at its end over which it falls linearly to 0;
    warm_up: steps over which it rises from 0."""

    rate: float = 2e-3
    decay: float = 0.4
    warm_up: int = 100

    def at(self, share: float, step: int) -> float:
        """The rate of step number ``step`` (from 0) when ``share`` of the piece is over."""
        rising = min(1.0, (step + 1) / max(self.warm_up, 1))
        falling = 1.0 if share < 1 - self.decay else max(0.0, (1 - share) / max(self.decay, 1e-9))
        return self.rate * rising * falling
