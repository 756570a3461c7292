"""A plan at work: places a stage's networks as planned, and goes on with a leaner plan where memory runs out.

It is the ``Placer`` of the pipelines. Stages find their part of the plan by the name of the stage that is open.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

from hy3dgen.runtime.ladder import run_with_ladder
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.offload import Memory, attach
from hy3dgen.runtime.plan import PLACEMENT_WORDS, Plan, StagePlan, next_leaner
from hy3dgen.runtime.stages import current

T = TypeVar("T")


class Engine:
    """Applies ``plan`` on ``device``. When a stage has to become leaner, ``plan`` changes and ``changed`` is told."""

    def __init__(self, plan: Plan, device: torch.device, *, memory: Memory | None = None) -> None:
        self.plan = plan
        self.device = device
        self.changed: list[Callable[[Plan], None]] = []
        self._memory = memory

    @contextlib.contextmanager
    def using(self, name: str, network: nn.Module) -> Iterator[None]:
        """Have ``network``, whose tensors are in host memory or a file, usable on the device inside the block."""
        record = current()
        stage = self.plan.stage(record.name)
        placement = stage.placement_of(name) if stage is not None else "staged"
        handle = attach(network, placement, self.device, memory=self._memory)
        try:
            words = f"{name} {PLACEMENT_WORDS[placement if placement != 'resident' else 'staged']}"
            if words not in record.levers:
                record.levers.append(words)
            yield
        finally:
            handle.detach()
            release_cached(self.device)

    def stage_plan(self, name: str) -> StagePlan | None:
        """The present plan of a stage."""
        return self.plan.stage(name)

    def attempts(self, stage_name: str, run: Callable[[StagePlan | None], T]) -> T:
        """``run(stage plan)``, again with leaner plans for this stage while it runs out of device memory.

        Raises OutOfMemoryError when the leanest fails too.
        """

        def plans() -> Iterator[StagePlan | None]:
            yield self.stage_plan(stage_name)
            while (leaner := next_leaner(self.plan, stage_name)) is not None:
                self.plan = leaner
                for hear in self.changed:
                    hear(leaner)
                yield self.stage_plan(stage_name)

        return run_with_ladder(stage_name, plans(), run, device=self.device)
