"""Whose turn it is: one line a client, and clients take turns. Knows names only; not thread-safe by itself."""

from __future__ import annotations

from collections import OrderedDict, deque


class FairQueue:
    """Jobs that wait. A client with many jobs does not keep one with a single job waiting behind all of them."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def add(self, client: str, job: str) -> None:
        """Put ``job`` at the end of its client's line."""
        self._lines.setdefault(client, deque()).append(job)

    def add_first(self, client: str, job: str) -> None:
        """Put ``job`` before everything else: it had its turn already."""
        self._lines.setdefault(client, deque()).appendleft(job)
        self._lines.move_to_end(client, last=False)

    def take(self) -> str | None:
        """The next job, None when nobody waits; its client goes to the end of the round."""
        if not self._lines:
            return None
        client, line = next(iter(self._lines.items()))
        job = line.popleft()
        self._lines.move_to_end(client)
        if not line:
            del self._lines[client]
        return job

    def remove(self, job: str) -> bool:
        """Take a job out of the queue; False when it was not there."""
        for client, line in self._lines.items():
            if job in line:
                line.remove(job)
                if not line:
                    del self._lines[client]
                return True
        return False

    def waiting_of(self, client: str) -> int:
        """How many jobs of this client wait."""
        return len(self._lines.get(client, ()))

    def order(self) -> list[str]:
        """All jobs in the order in which they will be taken, if nobody joins."""
        lines = [list(line) for line in self._lines.values()]
        longest = max(map(len, lines), default=0)
        return [line[turn] for turn in range(longest) for line in lines if turn < len(line)]
