"""The loop of both phases: losses, steps, averages, figures, saving; ends by the clock or when it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training import checkpoints
from training.ema import MovingAverage
from training.log import JsonLines
from training.networks import Networks
from training.optim import MuonAdamW
from training.schedules import BySteps, ByTime, Schedule


class Phase(Protocol):
    """What is trained, and on what."""

    name: str
    networks: Networks
    batch_size: int

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What the optimiser changes."""
        ...

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the next batch and figures for the log, scalars."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the data is: streams, generators, pools."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def finish(self, log: JsonLines) -> None:
        """Called once at the end, with the averages in place."""
        ...


class Stop:
    """True once the process was asked to end (SIGTERM, SIGINT)."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def ask(self, *_: int | FrameType | None) -> None:
        self._asked = True

    @contextmanager
    def listening(self) -> Iterator[Stop]:
        """Inside, the signals only set this; the step that is under way is finished first."""
        before = {number: signal.signal(number, self.ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class Session:
    """One piece of training of a phase, interruptible. out: where state, shards and log go."""

    phase: Phase
    progress: ByTime | BySteps
    schedule: Schedule
    out: Path
    log: JsonLines
    decay: float = 0.999
    log_every: int = 25
    evaluate: Callable[[], dict[str, Any]] | None = None
    evaluations: int = 4
    optimiser_options: dict[str, Any] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)

    def __post_init__(self) -> None:
        parameters = self.phase.parameters()
        self.optimiser = MuonAdamW(parameters, **self.optimiser_options)
        self.average = MovingAverage([parameter for _, parameter in parameters], self.decay)
        self.step = self.samples = self.piece_step = 0

    def load(self, state: dict[str, Any], *, same_piece: bool) -> None:
        """Go on exactly from the ``checkpoints.read_state`` of this phase; in the same (interrupted) piece, or as a
        new one with a fresh schedule."""
        self.phase.networks.load_state_dict(state["networks"])
        self.phase.networks.scale = state["scale"]
        self.step, self.samples = state["step"], state["samples"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.phase.load_state(state["data"])
        self.piece_step = state["piece_step"] if same_piece else 0

    def run(self) -> bool:
        """Train until the piece is over or a signal comes; saves in both cases. True when the piece is over."""
        with self.stop.listening():
            sums: dict[str, Tensor] = {}
            count, since, started_at = 0, time.monotonic(), self.piece_step
            due = self._next_evaluation()
            while not self.stop and (share := self.progress.share(self.piece_step)) < 1:
                figures = self._one_step(share)
                for name, value in figures.items():
                    sums[name] = sums[name] + value if name in sums else value
                count += 1
                if count == self.log_every:
                    self._report(sums, count, time.monotonic() - since)
                    sums, count, since = {}, 0, time.monotonic()
                if share >= due and self.evaluate is not None:
                    self._evaluated(share)
                    due, since = self._next_evaluation(), time.monotonic()
            if count:
                self._report(sums, count, time.monotonic() - since)
            over = not self.stop
            self.log.write(
                "end", step=self.step, samples=self.samples, finished=over, steps=self.piece_step - started_at
            )
            if over:
                with self.average.applied():
                    self.phase.finish(self.log)
                if self.evaluate is not None:
                    self._evaluated(1.0)
            self.save(finished=over)
        return over

    def _one_step(self, share: float) -> dict[str, Tensor]:
        loss, figures = self.phase.loss()
        loss.backward()
        norm = self.optimiser.step(self.schedule.at(share, self.piece_step))
        self.average.update()
        self.step, self.piece_step = self.step + 1, self.piece_step + 1
        self.samples += self.phase.batch_size
        return figures | {"gradient_norm": norm.detach()}

    def _report(self, sums: dict[str, Tensor], count: int, seconds: float) -> None:
        means = {name: float(value) / count for name, value in sums.items()}
        rate = count * self.phase.batch_size / max(seconds, 1e-6)
        self.log.write(self.phase.name, step=self.step, samples=self.samples, per_s=rate, **means)

    def _next_evaluation(self) -> float:
        share = self.progress.share(self.piece_step)
        return (int(share * self.evaluations) + 1) / self.evaluations

    def _evaluated(self, share: float) -> None:
        assert self.evaluate is not None
        begin = time.monotonic()
        with self.average.applied():
            self.log.write("evaluation", share=share, step=self.step, samples=self.samples, **self.evaluate())
        self.progress.pause(time.monotonic() - begin)

    def save(self, *, finished: bool) -> None:
        """The full state for this machine; the averages as shards for another."""
        state: dict[str, Any] = {
            "phase": self.phase.name,
            "networks": self.phase.networks.state_dict(),
            "config": self.phase.networks.config,
            "num_points": self.phase.networks.num_points,
            "scale": self.phase.networks.scale,
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "data": self.phase.state(),
            "step": self.step,
            "samples": self.samples,
            "piece_step": self.piece_step,
            "spent_s": self.progress.spent_s(),
            "finished": finished,
        }
        facts = {name: state[name] for name in ("phase", "config", "num_points", "scale", "step", "samples")}
        facts["stream"] = state["data"]["stream"]
        with self.average.applied():
            checkpoints.write_shards(self.out, self.phase.networks.state_dict(), facts)
        checkpoints.write_state(self.out, state)  # last: the pool makes it large, and a stopped process has little time


def generator_state(generator: torch.Generator) -> Tensor:
    """A generator's state as a CPU tensor, wherever the generator lives."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Undo ``generator_state``; state may have been loaded onto any device."""
    generator.set_state(state.cpu().to(torch.uint8))
