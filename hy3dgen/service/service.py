"""The service: takes requests, keeps the queue, lets the lanes work, and tells everybody who listens.

All state changes happen under one lock. Knows nothing of HTTP and imports no torch.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import hy3dgen
from hy3dgen.runtime.stages import STAGE_NAMES
from hy3dgen.service.availability import Availability
from hy3dgen.service.bus import Bus
from hy3dgen.service.checks import Checker
from hy3dgen.service.estimates import Estimates
from hy3dgen.service.housekeeping import DAY_S
from hy3dgen.service.intake import Intake, limits_as_dict
from hy3dgen.service.job import Job
from hy3dgen.service.lane import Lane
from hy3dgen.service.ledger import Ledger
from hy3dgen.service.order import Order, order_of
from hy3dgen.service.problems import (
    ALREADY_FINISHED,
    CANCELLED,
    NO_SPACE,
    NOT_FOUND,
    QUEUE_FULL,
    STOPPING,
    TOO_MANY_JOBS,
    WORKER_DIED,
    Problem,
    ServiceError,
)
from hy3dgen.service.progress import Progress
from hy3dgen.service.queue import FairQueue
from hy3dgen.service.requests import JobRequest
from hy3dgen.service.settings import FORMATS, ServiceSettings
from hy3dgen.service.storage import Storage
from hy3dgen.service.store import JobStore

logger = logging.getLogger(__name__)
SWEEP_S = 600.0
STOP_S = 15.0


class Service:
    """Jobs from request to result. Raises UsageError when another server has the folder.

    ``start`` begins to work on what an earlier server left, ``stop`` puts what is unfinished back into the queue.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.limits = settings.limits
        self.storage = Storage(settings.folder)
        self.bus = Bus()
        self.checker = Checker(self.limits)
        if settings.models_folder is not None:
            os.environ["HY3DGEN_MODELS"] = str(settings.models_folder)  # workers inherit it
        self.availability = Availability(settings.runner)
        self._intake = Intake(self.storage, self.checker, self.availability, settings.runner, self.limits)
        self._store = JobStore(self.storage.root)
        self._ledger = Ledger(self._store, self.storage, self.limits)
        self._changed = threading.Condition(threading.RLock())
        self._queue = FairQueue()
        self._active: dict[str, Job] = {}
        self._progress: dict[str, Progress] = {}
        self._doomed: set[str] = set()
        self._estimates = Estimates()
        self._stopping = threading.Event()
        self._lanes = [
            Lane(
                self,
                settings.make_runner,
                replace(settings.runner, device=device),
                idle_s=settings.idle_s,
                cancel_s=settings.cancel_s,
            )
            for device in settings.devices
        ]
        self._most_at_once = min(settings.concurrency or len(self._lanes), len(self._lanes))
        with self._changed:
            self._remember()

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers and the housekeeping."""
        self.checker.start()
        for lane in self._lanes:
            lane.start()
        threading.Thread(target=self._keep_house, name="housekeeping", daemon=True).start()

    def announce_stop(self) -> None:
        """Take and begin nothing more, and let go of who listens. Takes no lock: signal handlers call it."""
        self._stopping.set()

    def stop(self) -> None:
        """End the workers; a job in work waits for the next start. Nothing can be asked afterwards."""
        self.announce_stop()
        with self._changed:
            self._changed.notify_all()
        for lane in self._lanes:
            if lane.is_alive():
                lane.join(STOP_S)
        self.checker.close()
        with self._changed:
            self._ledger.catch_up()
        self._store.close()

    def _remember(self) -> None:
        """Take up what an earlier server left: the queue, and how long jobs took."""
        for document in self._store.unfinished():
            job = Job.from_document(document)
            if job.cancel_requested:
                self._end(job, "cancelled", None)
            elif job.attempts >= self.settings.attempts:
                detail = (
                    f"the server ended {job.attempts} times while it worked on this job; if it is not the machine, try "
                    "a smaller octree_resolution or texture_size"
                )
                self._end(job, "failed", Problem(WORKER_DIED, detail).as_dict())
            else:
                job.status, job.started, job.progress = "queued", None, None
                self._active[job.id] = job
                self._queue.add(job.client, job.id)
                self._ledger.save(job)
        for leftover in self.storage.leftovers(self._store.ids()):
            self.storage.remove(leftover)
        for document in reversed(self._store.page(100, statuses=["done"])[0]):
            self._learn(Job.from_document(document))
        self._ledger.keep_house()

    def _keep_house(self) -> None:
        while not self._stopping.wait(SWEEP_S):
            try:
                with self._changed:
                    self._ledger.keep_house()
            except Exception:  # the next time may go better
                logger.exception("old jobs cannot be removed")

    # --- for clients ------------------------------------------------------------------------------------------------

    def submit(self, request: JobRequest) -> dict[str, Any]:
        """Take a job. Everything that can be found wrong with it is found here. Raises ServiceError."""
        self._ensure_room(request.client)
        return self._enqueue(self._intake.accept(request))

    def get(self, job: str) -> dict[str, Any]:
        """A job as clients see it. Raises ServiceError when there is none."""
        with self._changed:
            return self._public(self.find(job))

    def find(self, job: str) -> Job:
        """The job itself, to be read only. Raises ServiceError when there is none."""
        with self._changed:
            active = self._active.get(job)
            if active is not None and job not in self._doomed:
                return active
            found = self._ledger.find(job) if active is None else None
            if found is None:
                raise ServiceError(NOT_FOUND, "there is no such job; it may have been deleted, or was too old to keep")
            return found

    def history(self, limit: int, before: str | None, statuses: Sequence[str]) -> dict[str, Any]:
        """A page of jobs, newest first."""
        with self._changed:
            jobs, following = self._ledger.page(limit, before, statuses)
            return {"jobs": [self._public(self._active.get(job.id, job)) for job in jobs], "next": following}

    def cancel(self, job: str) -> dict[str, Any]:
        """Stop a job: at once when it waits, within one step when it runs. Raises ServiceError."""
        with self._changed:
            found = self.find(job)
            if found.is_final:
                raise ServiceError(ALREADY_FINISHED, f"the job has ended already: it is {found.status}")
            if not found.cancel_requested:
                self._request_cancel(found)
            return self._public(found)

    def delete(self, job: str) -> None:
        """Forget a job and remove its files; a running one is stopped first. Raises ServiceError."""
        with self._changed:
            found = self.find(job)
            if found.status == "running":
                self._doomed.add(job)
                self._request_cancel(found)
                self._store.remove(job)  # its files go when it has stopped
                return
            if found.status == "queued":
                self._request_cancel(found)
            self._ledger.remove(job)

    def facts(self) -> dict[str, Any]:
        """What clients may know of this server."""
        with self._changed:
            running = sum(job.status == "running" for job in self._active.values())
            queue = {"waiting": len(self._queue), "running": running}
        devices = [{**lane.facts, "worker": lane.state} for lane in self._lanes if lane.facts is not None]
        failures = [lane.failure.detail for lane in self._lanes if lane.failure is not None]
        return {
            "name": "hy3dgen",
            "version": hy3dgen.__version__,
            "status": "ready" if devices else "failed" if failures else "starting",
            "failures": failures,
            "devices": devices,
            **self.availability.facts(),
            "formats": list(FORMATS),
            "stages": list(STAGE_NAMES),
            "limits": limits_as_dict(self.limits),
            "queue": queue,
        }

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [lane.pid for lane in self._lanes if lane.pid is not None]

    # --- for lanes --------------------------------------------------------------------------------------------------

    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def take(self, timeout_s: float) -> Order | None:
        """The next job for a lane, None when there is none in time."""
        with self._changed:
            if not self._changed.wait_for(self._may_take, timeout_s) or self._stopping.is_set():
                return None
            identity = self._queue.take()
            if identity is None:
                return None
            job = self._active[identity]
            job.status, job.started = "running", time.time()
            job.attempts += 1
            self._save(job)
            self._tell(job)
            self._tell_waiting()
            return order_of(job, str(self.storage.job(job.id)))

    def cancel_wanted(self, job: str) -> bool:
        with self._changed:
            return self._active[job].cancel_requested

    def heard(self, job: str, word: str, content: Any) -> None:
        """What a worker says about a job."""
        with self._changed:
            found = self._active.get(job)
            if found is None:
                return  # its end has been told already
            if word == "begin":
                self._progress[job] = Progress(content["stages"], usual_s=self._estimates.stages(found.fingerprint))
                self._tell_progress(found)
            elif word == "stage" and job in self._progress:
                self._progress[job].update(content)
                self._tell_progress(found)
            elif word == "mesh":
                found.mesh_ready = True
                self._tell(found)
                self.bus.publish(job, "mesh", {"url": f"/v1/jobs/{job}/mesh"})
            elif word == "done":
                self._done(found, content)
            elif word == "cancelled" or (word == "failed" and content["code"] == CANCELLED.code):
                self._end(found, "cancelled", None)
            elif word == "failed":
                self._end(found, "failed", content)

    def interrupted(self, job: str) -> None:
        """The server stops in the middle of a job: it waits, at the front, for the next start."""
        with self._changed:
            found = self._active[job]
            if found.cancel_requested:
                self._end(found, "cancelled", None)
                return
            found.status, found.started, found.progress = "queued", None, None
            found.attempts -= 1  # not its fault
            self._queue.add_first(found.client, job)
            self._save(found)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        running = sum(job.status == "running" for job in self._active.values())
        return self._stopping.is_set() or (len(self._queue) > 0 and running < self._most_at_once)

    def _ensure_room(self, client: str) -> None:
        with self._changed:
            if self._stopping.is_set():
                raise ServiceError(STOPPING, "the server is shutting down; try again later")
            if len(self._queue) >= self.limits.queue:
                raise ServiceError(QUEUE_FULL, f"{len(self._queue)} jobs are waiting already; try again later")
            if self._queue.waiting_of(client) >= self.limits.queue_per_client:
                raise ServiceError(
                    TOO_MANY_JOBS,
                    f"you have {self._queue.waiting_of(client)} jobs waiting, which is as many as one client may have; "
                    "wait for one, or cancel one",
                )
        if self.storage.free_bytes() < self.limits.free_disk_bytes:
            raise ServiceError(NO_SPACE, "the server's disk is almost full; delete old jobs, or ask its owner")

    def _enqueue(self, job: Job) -> dict[str, Any]:
        with self._changed:
            try:
                self._ensure_room(job.client)
                self._store.put(job.as_document())
            except BaseException:
                self.storage.remove(job.id)
                raise
            self._active[job.id] = job
            self._queue.add(job.client, job.id)
            self._changed.notify_all()
            return self._public(job)

    def _request_cancel(self, job: Job) -> None:
        job.cancel_requested = True
        if self._queue.remove(job.id):
            self._end(job, "cancelled", None)
            self._tell_waiting()
        else:
            self._save(job)
            self._tell(job)

    def _done(self, job: Job, result: dict[str, Any]) -> None:
        for kind, entry in result["files"].items():
            entry["url"] = f"/v1/jobs/{job.id}/result?format={kind}"
        job.result = result
        self._end(job, "done", None)
        self._learn(job)

    def _end(self, job: Job, status: Any, problem: dict[str, Any] | None) -> None:
        """A job has come to its end, whichever it is."""
        progress = self._progress.pop(job.id, None)
        if progress is not None:
            progress.finish()
            job.progress = progress.snapshot() | {"remaining_s": 0.0, "stage": None}
            if status == "done":
                job.progress["fraction"] = 1.0
        job.status, job.problem, job.finished = status, problem, time.time()
        self._active.pop(job.id, None)
        if job.id in self._doomed:
            self._doomed.discard(job.id)
            self.storage.remove(job.id)
        else:
            self.storage.forget_work(job.id)
            self._ledger.finish(job)
        self.bus.publish(job.id, "end", self._public(job))
        self._changed.notify_all()

    def _learn(self, job: Job) -> None:
        if job.started is not None and job.finished is not None and job.progress is not None:
            stages = {stage["name"]: stage["seconds"] for stage in job.progress["stages"]}
            self._estimates.learn(job.fingerprint, job.finished - job.started, stages)

    def _save(self, job: Job) -> None:
        if job.id not in self._doomed:
            self._ledger.save(job)

    def _public(self, job: Job) -> dict[str, Any]:
        if job.id in self._progress:
            job.progress = self._progress[job.id].snapshot()
        queue = self._place(job) if job.status == "queued" else None
        return job.as_public(queue=queue, keep_s=self.limits.keep_days * DAY_S)

    def _place(self, job: Job) -> dict[str, Any] | None:
        """Position in the queue and seconds until the start, as far as they can be told."""
        order = self._queue.order()
        if job.id not in order:
            return None
        ahead = order.index(job.id)
        seconds = [self._estimates.seconds(self._active[other].fingerprint) for other in order[:ahead]]
        for other in self._active.values():
            if other.status == "running" and other.started is not None:
                usual = self._estimates.seconds(other.fingerprint)
                seconds.append(None if usual is None else max(0.0, usual - (time.time() - other.started)))
        known = [value for value in seconds if value is not None]
        total = None if len(known) < len(seconds) else round(sum(known) / self._most_at_once, 1)
        return {"position": ahead + 1, "ahead": ahead, "estimate_s": total}

    def _tell(self, job: Job) -> None:
        if self.bus.has_listeners(job.id):
            self.bus.publish(job.id, "job", self._public(job))

    def _tell_waiting(self) -> None:
        for identity in self._queue.order():
            self._tell(self._active[identity])

    def _tell_progress(self, job: Job) -> None:
        if self.bus.has_listeners(job.id):
            self.bus.publish(job.id, "progress", self._progress[job.id].snapshot())
