"""The loop of both phases: losses, steps, averages, figures, saving; ends by the clock or when it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
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
from training.optim import MuonAdamW
from training.ranks import Ranks
from training.schedules import Progress, Schedule

LAST = "last"  # the folder within ``out`` of the last weights, where the best ones are kept
SAME_EVERY = 500  # steps after which all processes take over the main one's weights, in case rounding parted them


class Trained(Protocol):
    """Networks, as far as the loop knows them. config: what they are built from; scale: of their latents."""

    config: dict[str, Any]

    @property
    def scale(self) -> float: ...

    @scale.setter
    def scale(self, value: float) -> None: ...

    def facts(self) -> dict[str, Any]:
        """What it takes beside the config to build them, for state and shards."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


class Phase(Protocol):
    """What is trained, and on what."""

    name: str
    batch_size: int

    @property
    def networks(self) -> Trained: ...

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What the optimiser changes."""
        ...

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the next batch and figures for the log, scalars."""
        ...

    def place(self) -> dict[str, int]:
        """Where the stream of shapes is."""
        ...

    def state(self) -> dict[str, Any]:
        """Where the data is: streams, generators, pools."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def prepare(self, passes: int) -> None:
        """Make the first data, then go forward and back ``passes`` times without an effect on what follows."""
        ...

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
    """One piece of training of a phase, interruptible.

    out: where state, shards and log go; evaluate: held-out figures of some shapes, as every process has its part of
    them; passes: forward and backward before the clock starts, 2 to have compiled everything; keep_state: write
    ``checkpoints.STATE`` too, of use on this machine only; ranks: the processes that train together; best: the figure
    of ``evaluate`` whose highest value says which weights stay in ``out``, the last ones are in LAST then
    """

    phase: Phase
    progress: Progress
    schedule: Schedule
    out: Path
    log: JsonLines
    decay: float = 0.999
    log_every: int = 25
    evaluate: Callable[[], dict[str, Any]] | None = None
    evaluations: int = 4
    optimiser_options: dict[str, Any] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)
    passes: int = 0
    keep_state: bool = True
    ranks: Ranks = field(default_factory=Ranks)
    best: str | None = None

    def __post_init__(self) -> None:
        parameters = self.phase.parameters()
        self.ranks.same_([parameter for _, parameter in parameters])
        self.optimiser = MuonAdamW(parameters, **self.optimiser_options)
        self.average = MovingAverage([parameter for _, parameter in parameters], self.decay)
        self.step = self.samples = self.piece_step = 0
        self.highest: float | None = None  # value of ``best`` of the weights in ``out``

    def load(self, state: dict[str, Any], *, same_piece: bool) -> None:
        """Go on exactly from the ``checkpoints.read_state`` of this phase; in the same (interrupted) piece, or as a
        new one with a fresh schedule."""
        self.phase.networks.load_state_dict(state["networks"])
        self.phase.networks.scale = state["scale"]
        self.step, self.samples = state["step"], state["samples"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        if self.ranks.world == 1:  # the other processes' pools are not kept: each makes a new one
            self.phase.load_state(state["data"])
        self.piece_step = state["piece_step"] if same_piece else 0
        self.highest = state.get("highest") if same_piece else None

    def run(self) -> bool:
        """Train until the piece is over or a signal comes; saves in both cases. True when the piece is over."""
        with self.stop.listening():
            self._prepare()
            sums: dict[str, Tensor] = {}
            count, since, started_at = 0, time.monotonic(), self.piece_step
            due, stopped = self._next_evaluation(self.progress.share(self.piece_step)), False
            while True:
                share, stopped = self.ranks.agreed(self.progress.share(self.piece_step), bool(self.stop))
                if stopped or share >= 1:
                    break
                figures = self._one_step(share)
                for name, value in figures.items():
                    sums[name] = sums[name] + value if name in sums else value
                count += 1
                if count == self.log_every:
                    self._report(sums, count, time.monotonic() - since)
                    sums, count, since = {}, 0, time.monotonic()
                if share >= due and self.evaluate is not None:
                    self._evaluated(share)
                    due, since = self._next_evaluation(share), time.monotonic()
            if count:
                self._report(sums, count, time.monotonic() - since)
            steps = self.piece_step - started_at
            self._log("end", step=self.step, samples=self.samples, finished=not stopped, steps=steps)
            self._finish(stopped)
        return not stopped

    def _finish(self, stopped: bool) -> None:
        """Weights first, then figures: what was trained is safe when the evaluation is cut off."""
        if stopped:
            self.save(finished=False)
            return
        with self.average.applied():
            self.phase.finish(self.log)
        self.save(finished=True)
        if self.evaluate is not None:
            self._evaluated(1.0)

    def _prepare(self) -> None:
        begin = time.monotonic()
        self.phase.prepare(self.passes)
        for _, parameter in self.phase.parameters():
            parameter.grad = None
        self.ranks.wait()
        self._log("ready", seconds=time.monotonic() - begin)
        self.progress.begin()

    def _one_step(self, share: float) -> dict[str, Tensor]:
        loss, figures = self.phase.loss()
        loss.backward()
        norm = self.optimiser.step(self.schedule.at(share, self.piece_step), self.ranks)
        self.average.update()
        self.step, self.piece_step = self.step + 1, self.piece_step + 1
        self.samples += self.phase.batch_size * self.ranks.world
        if self.step % SAME_EVERY == 0:
            self.ranks.same_([parameter for _, parameter in self.phase.parameters()])
        return figures | {"gradient_norm": norm.detach()}

    def _report(self, sums: dict[str, Tensor], count: int, seconds: float) -> None:
        means = {name: float(value) / count for name, value in sums.items()}
        rate = count * self.phase.batch_size * self.ranks.world / max(seconds, 1e-6)
        self._log(self.phase.name, step=self.step, samples=self.samples, per_s=rate, **means)

    def _log(self, kind: str, **values: Any) -> None:
        if self.ranks.main:
            self.log.write(kind, **values)

    def _next_evaluation(self, share: float) -> float:
        return (int(share * self.evaluations) + 1) / self.evaluations

    def _evaluated(self, share: float) -> None:
        assert self.evaluate is not None
        begin = time.monotonic()
        with self.average.applied():
            figures = self.evaluate()
        self._log("evaluation", share=share, step=self.step, samples=self.samples, **figures)
        if self.best is not None:
            self._keep_best(figures)
        elif share < 1 and not self.keep_state:
            self.save(finished=False)  # something comes back even if the piece is cut off
        self.progress.pause(time.monotonic() - begin)

    def _keep_best(self, figures: dict[str, Any]) -> None:
        """The averages to ``out`` when they are better than what is there."""
        assert self.best is not None
        value = float(figures[self.best])
        better = self.highest is None or value > self.highest
        if not self.ranks.gathered(better)[0]:  # one decision for all of them
            return
        self.highest = value
        facts, stream = self._facts(), self._stream_place()
        if self.ranks.main:
            self._write_shards(self.out, facts | {"stream": stream, self.best: value})

    def _facts(self) -> dict[str, Any]:
        networks = self.phase.networks
        known = {"phase": self.phase.name, "config": networks.config, "scale": networks.scale}
        return known | {"step": self.step, "samples": self.samples} | networks.facts()

    def _write_shards(self, folder: Path, facts: dict[str, Any]) -> None:
        with self.average.applied():
            checkpoints.write_shards(folder, self._kept(), facts)

    def save(self, *, finished: bool) -> None:
        """The full state for this machine; the averages as shards for another. By the main process."""
        stream = self._stream_place()
        if not self.ranks.main:
            return
        networks = self.phase.networks
        facts = self._facts() | {"stream": stream}
        state: dict[str, Any] = facts | {
            "networks": networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "data": self.phase.state() | {"stream": stream},
            "piece_step": self.piece_step,
            "spent_s": self.progress.spent_s(),
            "highest": self.highest,
            "finished": finished,
        }
        self._write_shards(self.out if self.highest is None else self.out / LAST, facts)
        if not self.keep_state:
            return
        checkpoints.write_state(self.out, state)  # last: the pool makes it large, and a stopped process has little time

    def _stream_place(self) -> dict[str, int]:
        """Where a later run goes on: with several processes, behind the blocks that any of them has begun."""
        places = self.ranks.gathered(self.phase.place())
        if len(places) == 1:
            return places[0]
        return {"block": max(place["block"] for place in places) + 1, "offset": 0}

    def _kept(self) -> dict[str, Tensor]:
        """What goes into the shards."""
        return dict(self.phase.networks.state_dict())


def generator_state(generator: torch.Generator) -> Tensor:
    """A generator's state as a CPU tensor, wherever the generator lives."""
    return generator.get_state()


def restore_generator(generator: torch.Generator, state: Tensor) -> None:
    """Undo ``generator_state``; state may have been loaded onto any device."""
    generator.set_state(state.cpu().to(torch.uint8))
