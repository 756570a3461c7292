"""What is too old or too much goes: finished jobs with their files, oldest first. Queued and running jobs stay."""

from __future__ import annotations

import time

from hy3dgen.service.settings import Limits
from hy3dgen.service.storage import Storage
from hy3dgen.service.store import JobStore

DAY_S = 86400.0


def sweep(store: JobStore, storage: Storage, limits: Limits, *, now: float | None = None) -> list[str]:
    """Remove finished jobs that are over the limits; returns their ids. now: seconds since 1970."""
    now = time.time() if now is None else now
    rows = store.sizes()
    total = sum(size for _, _, size in rows)
    gone = []
    for number, (job, finished, size) in enumerate(rows, start=1):
        too_old = now - finished > limits.keep_days * DAY_S
        # The newest stays however large it is: somebody is about to fetch it.
        if not too_old and (total <= limits.keep_bytes or number == len(rows)):
            break
        storage.remove(job)  # first: it makes the room that forgetting may need
        store.remove(job)
        total -= size
        gone.append(job)
    return gone
