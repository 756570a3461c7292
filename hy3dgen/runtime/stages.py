"""A run as a list of named stages: measured, observable and cancellable.

A script opens one ``recording(...)``; library code marks its stages with ``with stage(name) as record:`` and its
loops with ``for item in steps(items, unit="step"):``. Without a recording all of this still works and costs nothing.
The recording travels in a context variable, so that networks and loops need no extra argument.
This module does not know what the stages do, nor who listens.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from hy3dgen.errors import Cancelled, NumericalError, UsageError
from hy3dgen.runtime import memory
from hy3dgen.runtime.clock import Stopwatch

if TYPE_CHECKING:
    import torch

STAGE_NAMES = (
    "load", "cutout", "condition", "denoise", "decode", "extract", "clean", "reduce",
    "unwrap", "delight", "maps", "views", "bake", "fill", "export",
)  # fmt: skip

T = TypeVar("T")


class CancelEvent(Protocol):
    """What ``cancel_event=`` takes: a ``threading.Event`` or anything that answers ``is_set()``."""

    def is_set(self) -> bool: ...


@dataclass
class Decision:
    """Whether one memory technique was applied in a stage, and why (not)."""

    technique: str
    applied: bool
    why: str


@dataclass
class StageRecord:
    """What one stage did. ``figures`` holds numbers for the report (faces, floaters, coverage, …)."""

    name: str
    seconds: float = 0.0
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    steps_done: int = 0
    steps_total: int | None = None
    unit: str = "step"
    levers: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def warn(self, message: str) -> None:
        """Keep a sentence for the report, once."""
        if message not in self.warnings:
            self.warnings.append(message)
            _emit(self)

    def progress(self, done: int, total: int | None, *, unit: str = "step") -> None:
        """Say how far the stage is, for what is no loop; ``steps`` does it for loops. total: None when unknown."""
        if (done, total, unit) != (self.steps_done, self.steps_total, self.unit):
            self.steps_done, self.steps_total, self.unit = done, total, unit
            _emit(self)

    def decide(self, technique: str, applied: bool, why: str) -> None:
        """Say whether a technique was applied in this stage, and why; the last word counts."""
        self.decisions = [d for d in self.decisions if d.technique != technique]
        self.decisions.append(Decision(technique, applied, why))


Listener = Callable[[StageRecord], None]


@dataclass
class Recording:
    """The stages of one run, in the order in which they started."""

    device: torch.device | None = None
    cancel_event: CancelEvent | None = None
    listener: Listener | None = None
    stages: list[StageRecord] = field(default_factory=list)


_recording: contextvars.ContextVar[Recording | None] = contextvars.ContextVar("recording", default=None)
_stage: contextvars.ContextVar[StageRecord | None] = contextvars.ContextVar("stage", default=None)
_cancel: contextvars.ContextVar[CancelEvent | None] = contextvars.ContextVar("cancel", default=None)


@contextlib.contextmanager
def recording(
    *,
    device: torch.device | None = None,
    cancel_event: CancelEvent | None = None,
    listener: Listener | None = None,
) -> Iterator[Recording]:
    """Record every stage that runs inside. ``listener`` is called at each start, step, warning and end of a stage."""
    run = Recording(device=device, cancel_event=cancel_event, listener=listener)
    token = _recording.set(run)
    try:
        with cancelling(cancel_event):
            yield run
    finally:
        _recording.reset(token)


@contextlib.contextmanager
def cancelling(cancel_event: CancelEvent | None) -> Iterator[None]:
    """Let ``cancel_event`` stop what runs inside; None keeps the event that is in force outside."""
    if cancel_event is None:
        yield
        return
    token = _cancel.set(cancel_event)
    try:
        yield
    finally:
        _cancel.reset(token)


def check_cancelled() -> None:
    """Raise Cancelled when the run's cancel event is set."""
    event = _cancel.get()
    if event is not None and event.is_set():
        raise Cancelled("cancelled")


@contextlib.contextmanager
def stage(name: str) -> Iterator[StageRecord]:
    """One named step of a run: cancel point, stopwatch and device peaks. Names come from STAGE_NAMES.

    A stage opened inside another keeps its own record; a repeated name makes a second record.
    """
    if name not in STAGE_NAMES:
        raise UsageError(f"unknown stage '{name}'; stages are {', '.join(STAGE_NAMES)}")
    check_cancelled()
    run = _recording.get()
    record = StageRecord(name)
    if run is not None:
        run.stages.append(record)
    device = run.device if run is not None else None
    if device is not None:
        memory.reset_peaks(device)
    token = _stage.set(record)
    watch = Stopwatch()
    _emit(record)
    try:
        yield record
        if device is not None:
            from hy3dgen.runtime.device import synchronize

            synchronize(device)
    finally:
        record.seconds = watch.elapsed_s
        if device is not None:
            record.peak_allocated_bytes = memory.peak_allocated_bytes(device)
            record.peak_reserved_bytes = memory.peak_reserved_bytes(device)
        _stage.reset(token)
        record.figures.setdefault("finished", True)
        _emit(record)


def current() -> StageRecord:
    """The record of the innermost open stage, or one that nobody reads when there is none."""
    return _stage.get() or StageRecord("load")


def steps(items: Iterable[T], *, total: int | None = None, unit: str = "step") -> Iterator[T]:
    """Yield ``items``, reporting progress to the current stage and stopping within one item when cancelled.

    total: number of items; taken from ``len(items)`` when it has one.
    """
    record = current()
    record.unit, record.steps_done = unit, 0
    if total is None and isinstance(items, Sized):
        total = len(items)
    record.steps_total = total
    _emit(record)
    for item in items:
        check_cancelled()
        yield item
        record.steps_done += 1
        _emit(record)


def ensure_finite(tensor: torch.Tensor, what: str) -> None:
    """Raise NumericalError when ``tensor`` holds NaN or Inf; ``what`` names it in the message."""
    import torch

    if not bool(torch.isfinite(tensor).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise NumericalError(f"{what}: {bad} of {tensor.numel()} values are NaN or Inf in {str(tensor.dtype)[6:]}")


def _emit(record: StageRecord) -> None:
    run = _recording.get()
    if run is not None and run.listener is not None:
        run.listener(record)
