"""What the visits of a stage's networks took, in seconds: to arrive, to run, to leave. Kept in the stage's record.

The clock is the host's. A GPU works on when the host has asked for everything, so work shows up where the host next
waits for it; at log level DEBUG every mark waits for the device, and costs that.
"""

from __future__ import annotations

import logging

import torch

from hy3dgen.runtime.clock import Stopwatch
from hy3dgen.runtime.device import synchronize
from hy3dgen.runtime.stages import current

logger = logging.getLogger(__name__)

VISITS = "visits"  # name of the figure; a list with one row for each visit


class Visit:
    """One visit. Every ``mark`` adds the seconds since the last one to the visit's row."""

    def __init__(self, network: str, device: torch.device) -> None:
        self._device = device
        self._row: dict[str, str | float] = {"network": network}
        rows = current().figures.setdefault(VISITS, [])
        assert isinstance(rows, list)
        rows.append(self._row)
        self._watch = Stopwatch()
        self._last_s = 0.0

    def mark(self, what: str) -> None:
        """what: a name that ends in ``_s``, such as 'arrive_s'; a repeated one is added up."""
        if logger.isEnabledFor(logging.DEBUG):
            synchronize(self._device)
        now_s = self._watch.elapsed_s
        self._row[what] = round(float(self._row.get(what, 0.0)) + now_s - self._last_s, 4)
        self._last_s = now_s
