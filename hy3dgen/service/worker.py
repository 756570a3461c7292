"""The worker process: takes orders from a pipe, does them one after the other, and says how it goes.

It never outlives its server: when the pipe closes, it ends at once. Messages are pairs (word, content).

from the server    run Order · cancel job id · quit
to the server      facts dict · begin dict · stage dict · mesh None · done result · failed problem document
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, Protocol

from hy3dgen.errors import Cancelled, Hy3dgenError
from hy3dgen.runtime.stages import CancelEvent
from hy3dgen.service.order import Order
from hy3dgen.service.problems import problem_of
from hy3dgen.service.settings import RunnerMaker, RunnerSettings

logger = logging.getLogger(__name__)
BETWEEN_STEPS_S = 0.25


class Tell(Protocol):
    def __call__(self, word: str, content: Any, /) -> None: ...


class Runner(Protocol):
    """What a worker needs to do jobs."""

    def facts(self) -> dict[str, Any]: ...

    def run(self, order: Order, tell: Tell, cancel_event: CancelEvent) -> dict[str, Any]: ...

    def release(self) -> None: ...


class _Orders:
    """What the server says, read by a thread of its own so that a cancel is heard in the middle of a job."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._waiting: queue.Queue[Order | None] = queue.Queue()
        self._cancels: dict[str, threading.Event] = {}
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def next(self) -> tuple[Order, threading.Event] | None:
        """The next order with the event that stops it, None to end."""
        order = self._waiting.get()
        return None if order is None else (order, self._cancels[order.id])

    def done(self, order: Order) -> None:
        self._cancels.pop(order.id, None)

    def _read(self) -> None:
        try:
            while True:
                word, content = self._pipe.recv()
                if word == "run":
                    self._cancels[content.id] = threading.Event()
                    self._waiting.put(content)
                elif word == "cancel" and content in self._cancels:
                    self._cancels[content].set()
                elif word == "quit":
                    self._waiting.put(None)
        except (EOFError, OSError):
            os._exit(0)  # the server is gone, and with it everybody who wanted the result


class _Voice:
    """Sends messages; of the steps inside a stage only a few a second."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._runs: dict[int, tuple[int, float]] = {}
        self._last_s = 0.0

    def new_job(self) -> None:
        self._runs.clear()

    def __call__(self, word: str, content: Any, /) -> None:
        if word == "stage":
            content = self._timed(content)
            if content is None:
                return
        with self._lock, contextlib.suppress(OSError):  # the reading thread notices that the server is gone
            self._pipe.send((word, content))

    def _timed(self, stage: dict[str, Any]) -> dict[str, Any] | None:
        """The message with a number for the run of the stage, and seconds while it runs; None to leave it out."""
        now = time.monotonic()
        key = stage.pop("record")
        is_new = key not in self._runs
        run, started = self._runs.setdefault(key, (len(self._runs), now))
        if stage["finished"]:
            # A later record may get the same id() once this one is gone.
            del self._runs[key]
            self._runs[-1 - run] = (run, started)
        elif not is_new and now - self._last_s < BETWEEN_STEPS_S:
            return None
        self._last_s = now
        return {**stage, "run": run, "seconds": stage["seconds"] or now - started}


def main(pipe: Connection, make_runner: RunnerMaker, settings: RunnerSettings) -> None:
    """The whole life of a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches the whole group; the server decides what ends
        signal.signal(number, signal.SIG_IGN)
    voice = _Voice(pipe)
    orders = _Orders(pipe)
    try:
        runner = make_runner(settings)
        voice("facts", runner.facts())
    except Exception as error:
        logger.exception("the worker cannot start")
        voice("failed", problem_of(error).as_dict())
        return
    while (following := orders.next()) is not None:
        order, cancel_event = following
        voice.new_job()
        _do(order, runner, voice, cancel_event)
        orders.done(order)


def _do(order: Order, runner: Runner, voice: _Voice, cancel_event: CancelEvent) -> None:
    try:
        outcome = runner.run(order, voice, cancel_event)
    except Exception as error:
        if not isinstance(error, Hy3dgenError):
            logger.exception("job %s", order.id)
        if not isinstance(error, Cancelled):
            runner.release()  # nobody knows what state the networks are in
        voice("failed", problem_of(error).as_dict())
    else:
        voice("done", outcome)
