"""The keeper of one worker process: a thread that hands it jobs, listens to it, ends it when idle and replaces it.

The one owner of its process. What a job is, and what becomes of it, is the service's business.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Protocol

from hy3dgen.service import worker
from hy3dgen.service.order import Order
from hy3dgen.service.problems import INTERNAL, WORKER_DIED, Problem
from hy3dgen.service.process import ChildProcess, ProcessEndedError
from hy3dgen.service.settings import RunnerMaker, RunnerSettings

logger = logging.getLogger(__name__)
LISTEN_S = 0.1
IDLE_LOOK_S = 0.5
START_S = 300.0  # importing torch from a cold disk, and a driver that wakes up


class Desk(Protocol):
    """What a lane asks of the service, and tells it."""

    def take(self, timeout_s: float) -> Order | None: ...

    def is_stopping(self) -> bool: ...

    def cancel_wanted(self, job: str) -> bool: ...

    def heard(self, job: str, word: str, content: Any) -> None: ...

    def interrupted(self, job: str) -> None: ...


class Lane(threading.Thread):
    """One device's thread. ``state`` is 'starting', 'idle', 'busy', 'stopped' or 'failed'; ``facts`` of the device."""

    def __init__(
        self,
        desk: Desk,
        make_runner: RunnerMaker,
        settings: RunnerSettings,
        *,
        idle_s: float,
        cancel_s: float,
    ) -> None:
        super().__init__(name=f"lane-{settings.device}", daemon=True)
        self.state = "starting"
        self.facts: dict[str, Any] | None = None
        self.failure: Problem | None = None
        self._desk = desk
        self._idle_s, self._cancel_s = idle_s, cancel_s
        self._process = ChildProcess(f"hy3dgen-{settings.device}", worker.main, make_runner, settings)
        self._ready = False

    @property
    def pid(self) -> int | None:
        """Of the worker process, None while there is none."""
        return self._process.pid if self._process.is_running else None

    def run(self) -> None:
        """The thread: until the service stops."""
        try:
            self._prepare()
            self._work()
        finally:
            self._process.kill()
            self.state = "stopped"

    def _work(self) -> None:
        idle_since = time.monotonic()
        while not self._desk.is_stopping():
            order = self._desk.take(IDLE_LOOK_S)
            if order is not None:
                try:
                    self._do(order)
                except Exception:  # our own mistake must not leave the queue without a keeper
                    logger.exception("job %s", order.id)
                    self._give_up()
                    detail = "an unexpected error stopped the job; the server's log has the details"
                    self._desk.heard(order.id, "failed", Problem(INTERNAL, detail).as_dict())
                idle_since = time.monotonic()
            elif self._ready and time.monotonic() - idle_since > self._idle_s:
                self._ready, self.state = False, "stopped"
                self._process.quit(("quit", None))
                logger.info("the worker was idle and has been ended, which gives back its memory")
            elif self._ready:
                self._notice_death()

    def _notice_death(self) -> None:
        """A worker may die while nobody needs it."""
        try:
            self._process.receive(0)
        except ProcessEndedError as error:
            logger.warning("the idle worker ended with %s", error.exit_code)
            self._give_up()

    def _prepare(self) -> bool:
        """Have a worker that is ready; False when it cannot start, with ``failure`` saying why."""
        if self._ready:
            return True
        self.state = "starting"
        try:
            self._process.start()
            answer = self._await_start()
        except ProcessEndedError as error:
            answer = ("failed", Problem(WORKER_DIED, _died(error, "while starting")).as_dict())
        if answer is not None and answer[0] == "facts":
            self.facts, self.failure = answer[1], None
            self._ready, self.state = True, "idle"
            return True
        self._give_up()
        self.state = "failed"
        document = answer[1] if answer is not None else {"detail": "the worker did not start in time"}
        self.failure = Problem(WORKER_DIED, f"the worker cannot start: {document['detail']}")
        if not self._desk.is_stopping():
            logger.error(self.failure.detail)
        return False

    def _await_start(self) -> tuple[str, Any] | None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and not self._desk.is_stopping():
            answer = self._process.receive(LISTEN_S)
            if answer is not None:
                return answer
        return None

    def _do(self, order: Order) -> None:
        """Have one job done, or say why not."""
        if not self._prepare():
            if self._desk.is_stopping():
                self._desk.interrupted(order.id)
            elif self.failure is not None:
                self._desk.heard(order.id, "failed", self.failure.as_dict())
            return
        self.state = "busy"
        listener = _Listener(self._process, self._desk, order, self._cancel_s)
        try:
            self._process.send(("run", order))
            if not listener.until_the_end():
                self._give_up()
                self._desk.interrupted(order.id)
                return
        except ProcessEndedError as error:
            self._give_up()
            self._tell_death(order, error, listener)
            return
        self.state = "idle"

    def _tell_death(self, order: Order, error: ProcessEndedError, listener: _Listener) -> None:
        if listener.ended_by_us:
            self._desk.heard(order.id, "cancelled", None)
            return
        where = f"in stage '{listener.stage}'" if listener.stage else "before the first stage"
        detail = _died(error, where) + "; a new worker takes the next job. Send this one again"
        logger.error("job %s: %s", order.id, detail)
        self._desk.heard(order.id, "failed", Problem(WORKER_DIED, detail).as_dict())

    def _give_up(self) -> None:
        self._process.kill()
        self._ready, self.state = False, "stopped"


class _Listener:
    """Listens to a worker during one job and passes on what it says."""

    def __init__(self, process: ChildProcess, desk: Desk, order: Order, cancel_s: float) -> None:
        self._process, self._desk, self._order, self._cancel_s = process, desk, order, cancel_s
        self._cancel_sent_at: float | None = None
        self.stage: str | None = None
        self.ended_by_us = False

    def until_the_end(self) -> bool:
        """True when the job has ended, False when the service is stopping. Raises ProcessEndedError."""
        while True:
            message = self._process.receive(LISTEN_S)
            if message is not None:
                word, content = message
                if word == "stage":
                    self.stage = content["name"]
                self._desk.heard(self._order.id, word, content)
                if word in ("done", "failed"):
                    return True
            if self._desk.is_stopping():
                return False
            self._pass_on_cancel()

    def _pass_on_cancel(self) -> None:
        now = time.monotonic()
        if self._cancel_sent_at is None:
            if self._desk.cancel_wanted(self._order.id):
                self._process.send(("cancel", self._order.id))
                self._cancel_sent_at = now
        elif now - self._cancel_sent_at > self._cancel_s:
            self.ended_by_us = True
            self._process.kill()
            raise ProcessEndedError(None)


def _died(error: ProcessEndedError, where: str) -> str:
    code = error.exit_code
    if code is not None and code < 0:
        how = f"was killed by signal {-code}, as systems do when memory runs out,"
    else:
        how = f"ended with exit code {code}"
    return f"the worker process {how} {where}"
