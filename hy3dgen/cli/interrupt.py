"""Ctrl-C and SIGTERM: the first asks the run to stop within one step, the second ends the process at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from hy3dgen.cli.exit_codes import CANCELLED


@contextlib.contextmanager
def stop_on_signals(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first signal sets; earlier handlers come back at the end.

    Outside the main thread Python allows no handlers, and the event is simply never set.
    """
    event = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            os._exit(CANCELLED)
        event.set()
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
