"""A child process and the pipe to it, as its owner sees them: started when needed, gone when told, never left behind.

Processes are spawned, so that they inherit neither threads nor a CUDA context. Not thread-safe: one owner.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_CONTEXT = multiprocessing.get_context("spawn")
QUIT_S = 5.0


class ProcessEndedError(Exception):
    """The process is gone. ``exit_code`` is negative for a signal, None when it is not known."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"the process ended ({exit_code})")
        self.exit_code = exit_code


class ChildProcess:
    """Runs ``target(pipe, *arguments)`` in a process of its own; target and arguments must be importable."""

    def __init__(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        self._name, self._target, self._arguments = name, target, arguments
        self._process: Any = None
        self._pipe: Connection | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; nothing happens when it runs."""
        if self.is_running:
            return
        self.kill()
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=self._target, args=(theirs, *self._arguments), name=self._name, daemon=True
        )
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def send(self, message: Any) -> None:
        """Raises ProcessEndedError when it is gone."""
        try:
            assert self._pipe is not None
            self._pipe.send(message)
        except (OSError, ValueError) as error:
            raise self._ended() from error

    def receive(self, timeout_s: float) -> Any | None:
        """The next message, None when there is none in time. Raises ProcessEndedError when the process is gone."""
        try:
            assert self._pipe is not None
            return self._pipe.recv() if self._pipe.poll(timeout_s) else None
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def quit(self, message: Any) -> None:
        """Ask it to end, and end it when it does not."""
        if self.is_running:
            with contextlib.suppress(ProcessEndedError):
                self.send(message)
            self._process.join(QUIT_S)
        self.kill()

    def interrupt(self) -> None:
        """End it now, from any thread; its owner notices and cleans up."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # cleaned up meanwhile
                process.kill()

    def kill(self) -> None:
        """End it now and free what it used; nothing happens when it does not run."""
        if self._process is not None:
            if self._process.is_alive():
                self._process.kill()
            self._process.join()
            self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _ended(self) -> ProcessEndedError:
        self._process.join(QUIT_S)
        return ProcessEndedError(self._process.exitcode)
