"""A moving average of parameters, which is what is evaluated and exported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class MovingAverage:
    """float32 averages of parameters. A young average forgets faster: step n decays by at most (1 + n) / (10 + n)."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.999) -> None:
        self._parameters = list(parameters)
        self._averages = [parameter.detach().clone().float() for parameter in self._parameters]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._averages, [parameter.detach().float() for parameter in self._parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters have their averages' values; afterwards their own again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            own = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "averages": self._averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        for average, stored in zip(self._averages, state["averages"], strict=True):
            average.copy_(stored)
