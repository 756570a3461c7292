"""Who wants to hear of which job. Threads publish, coroutines listen; every event carries the whole state.

Since it does, a listener that is slow loses nothing when only the latest event of each sort is kept for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

ORDER = ("job", "mesh", "progress", "end")


class Subscription:
    """The events of one job for one listener, made inside the listener's event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: dict[str, tuple[int, Any]] = {}

    def push(self, number: int, event: str, data: Any) -> None:
        """Called from any thread."""
        with self._lock:
            self._waiting[event] = (number, data)
        with contextlib.suppress(RuntimeError):  # the loop has been closed, so nobody listens
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def next(self, timeout_s: float) -> list[tuple[int, str, Any]]:
        """What has come, as (number, event, data); empty when nothing comes in time."""
        try:
            await asyncio.wait_for(self._arrived.wait(), timeout_s)
        except TimeoutError:
            return []
        self._arrived.clear()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        return [(waiting[event][0], event, waiting[event][1]) for event in ORDER if event in waiting]


class Bus:
    """The subscriptions of a service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Subscription]] = {}
        self._numbers = itertools.count(1)

    def publish(self, job: str, event: str, data: Any) -> None:
        """Tell everybody who listens to ``job``."""
        with self._lock:
            listeners = tuple(self._listeners.get(job, ()))
            number = next(self._numbers)
        for listener in listeners:
            listener.push(number, event, data)

    def has_listeners(self, job: str) -> bool:
        """Whether it is worth the work of publishing."""
        with self._lock:
            return job in self._listeners

    @contextlib.contextmanager
    def listening(self, job: str) -> Iterator[Subscription]:
        """A subscription for the time of the block."""
        subscription = Subscription()
        with self._lock:
            self._listeners.setdefault(job, set()).add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                listeners = self._listeners[job]
                listeners.discard(subscription)
                if not listeners:
                    del self._listeners[job]
