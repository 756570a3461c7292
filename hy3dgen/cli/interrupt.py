"""Ctrl-C and SIGTERM: the first asks the run to stop within one step, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from hy3dgen.cli.exit_codes import CANCELLED

SHOW_CURSOR = b"\x1b[?25h\n"


@contextlib.contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as Ctrl-C does: for the time before ``stop_on_signals`` and for small programs.

    Outside the main thread Python allows no handlers, and nothing changes.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


@contextlib.contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first signal sets; earlier handlers come back at the end.

    Outside the main thread Python allows no handlers, and the event is simply never set.
    """
    event = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            _end_at_once()
        event.set()
        with contextlib.suppress(RuntimeError):  # the signal came while the same stream was being written
            say("stopping after this step; once more ends at once")

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _end_at_once() -> None:
    """End without any clean-up; only the terminal gets its cursor back, which a progress display had hidden."""
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, SHOW_CURSOR)
    os._exit(CANCELLED)
