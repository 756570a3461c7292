"""How jobs stand, written down as well as the disk lets us: what it does not take is kept in mind and tried again.

A full disk must neither end a lane nor leave a job 'running' for those who ask. Its user holds the service's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hy3dgen.errors import OutputError
from hy3dgen.service.housekeeping import sweep
from hy3dgen.service.job import Job, is_id
from hy3dgen.service.settings import Limits
from hy3dgen.service.storage import Storage
from hy3dgen.service.store import JobStore

logger = logging.getLogger(__name__)


class Ledger:
    """The list of jobs and their files, seen together."""

    def __init__(self, store: JobStore, storage: Storage, limits: Limits) -> None:
        self._store, self._storage, self._limits = store, storage, limits
        self._unwritten: dict[str, Job] = {}

    def find(self, job: str) -> Job | None:
        """The job with this id, None when there is none."""
        if job in self._unwritten:
            return self._unwritten[job]
        document = self._store.get(job) if is_id(job) else None
        return None if document is None else Job.from_document(document)

    def page(self, limit: int, before: str | None, statuses: Sequence[str]) -> tuple[list[Job], str | None]:
        """Jobs, newest first, and the id to give as ``before`` for the following ones."""
        documents, following = self._store.page(limit, before=before, statuses=statuses)
        return [self._unwritten.get(d["id"]) or Job.from_document(d) for d in documents], following

    def save(self, job: Job) -> None:
        """Write down how an unfinished job stands; if that cannot be, what is on disk begins again next time."""
        try:
            self._store.put(job.as_document())
        except OutputError:
            logger.exception("job %s cannot be written down", job.id)

    def finish(self, job: Job) -> None:
        """Write down how a job ended."""
        self._unwritten[job.id] = job
        self.catch_up()

    def remove(self, job: str) -> None:
        """Forget a job. Raises OutputError. Its files go first: they make the room that forgetting may need."""
        self._storage.remove(job)
        self._store.remove(job)
        self._unwritten.pop(job, None)

    def catch_up(self) -> None:
        """Write down what could not be so far."""
        for job in list(self._unwritten.values()):
            self._write_down(job)

    def keep_house(self) -> None:
        """Write down what could not be, and remove what is over the limits."""
        self.catch_up()
        sweep(self._store, self._storage, self._limits)

    def _write_down(self, job: Job) -> None:
        try:
            self._store.put(job.as_document(), size_bytes=self._storage.size_bytes(job.id))
            del self._unwritten[job.id]
            sweep(self._store, self._storage, self._limits)
        except (OutputError, OSError):
            logger.exception("the end of job %s cannot be written down", job.id)
