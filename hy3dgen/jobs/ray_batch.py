"""A batch on Ray: one worker for each GPU of the cluster, inputs and results as bytes through the object store.

The driver alone reads inputs and writes files, so a worker that is lost in the middle loses nothing and repeats
nothing that was finished: its task goes to another one. Needs the extra ``ray``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import hy3dgen
from hy3dgen.errors import Cancelled, ImageError, InputError, MissingExtraError, OutOfMemoryError, UsageError
from hy3dgen.jobs.batch import BatchList, Outcome, Watcher, finished_before, preview_of
from hy3dgen.jobs.identity import content_of, mesh_hash, task_key
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.output import Outputs, Target, write_files
from hy3dgen.jobs.result import encode_result
from hy3dgen.jobs.run import Surroundings, options_for, run_task, write_report
from hy3dgen.jobs.task import Task
from hy3dgen.meshes.io import read_mesh

LOCAL = "local"
MOST_TRIES = 3
CORES_PER_WORKER = 2
POLL_SECONDS = 0.2
PATIENCE_S = 30.0
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """What a worker sends back: encoded files by path and the report, or the error."""

    files: Mapping[Path, tuple[str, bytes]]
    report: dict[str, Any]
    error: BaseException | None = None


class Maker:
    """The worker: loads the models once and makes one task after the other."""

    def __init__(self, options: JobOptions, many_views: bool) -> None:
        self._options, self._many_views = options, many_views
        self._models: Models | None = None

    def pid(self) -> int:
        """The worker's process id."""
        return os.getpid()

    def make(self, task: Task, target: Target, command: tuple[str, ...]) -> Answer:
        """Make a task whose inputs are bytes. Errors come back as values, so that only a lost worker raises."""
        try:
            if self._models is None:
                self._models = Models(self._options, many_views=self._many_views, keep_background=True)
            result = run_task(task, self._models, None, Surroundings(command=command))
            files = encode_result(result, options_for(task, self._models), target, task.name)
        except Exception as error:  # noqa: BLE001 - sent to the driver, which decides
            return Answer({}, {}, error)
        return Answer(files, result.report)


@dataclass
class _Job:
    """A task on its way: its target files, its key, and how often it has been tried."""

    task: Task
    target: Target
    key: str
    started: float = 0.0
    tries: int = 0


def run_ray_batch(
    tasks: Sequence[Task],
    models: Models,
    outputs: Outputs,
    around: Surroundings,
    *,
    address: str = LOCAL,
    resume: bool = False,
    watcher: Watcher | None = None,
    workers: int | None = None,
) -> list[Outcome]:
    """As ``jobs.batch.run_batch``, on a Ray cluster.

    address: 'local' starts one on this machine, 'auto' or HOST:PORT joins a running one
    workers: how many, None for one a GPU, or one for every two cores where there is none
    Raises MissingExtraError without Ray, UsageError when the cluster cannot be reached.
    """
    watcher = watcher or Watcher()
    if around.keep is not None:
        raise UsageError("--keep does not go with --ray: results travel as bytes, and stages stay with their worker")
    ray = _connect(address)
    try:
        driver = _Driver(ray, models, outputs, around, watcher, many_views=any(len(t.pictures) > 1 for t in tasks))
        return driver.run(tasks, resume=resume, workers=workers)
    finally:
        ray.shutdown()


class _Driver:
    """Hands tasks to workers, writes what comes back, and starts a new worker for one that is lost."""

    def __init__(
        self, ray: Any, models: Models, outputs: Outputs, around: Surroundings, watcher: Watcher, *, many_views: bool
    ) -> None:
        self._ray, self._models, self._outputs = ray, models, outputs
        self._around, self._watcher = around, watcher
        self._listing = BatchList(outputs.folder())
        self._outcomes: dict[int, Outcome] = {}
        self._order: dict[int, int] = {}
        self._total = 0
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, tuple[Any, _Job]] = {}
        self._failed_starts = 0
        self._heard = perf_counter()
        self._gpus = int(ray.cluster_resources().get("GPU", 0))
        share = {"num_gpus": 1} if self._gpus else {"num_cpus": 1}
        self._make_worker = ray.remote(**share)(Maker)
        self._many_views = many_views

    def run(self, tasks: Sequence[Task], *, resume: bool, workers: int | None) -> list[Outcome]:
        """Every task to its end; outcomes in the order of the tasks."""
        self._total = len(tasks)
        self._order = {id(task): index for index, task in enumerate(tasks)}
        waiting = self._prepare(tasks, resume=resume)
        count = min(len(waiting), workers or self._gpus or max(1, self._cores() // CORES_PER_WORKER))
        for _ in range(count):
            self._start_worker()
        while waiting or self._running:
            event = self._around.cancel_event
            if event is not None and event.is_set():
                self._cancel([job for _, job in self._running.values()] + list(waiting))
                break
            while self._idle and waiting:
                self._send(self._idle.pop(), waiting.popleft())
            pending = [*self._starting, *self._running]
            if not pending:
                continue
            ready, _ = self._ray.wait(pending, num_returns=1, timeout=POLL_SECONDS)
            for reference in ready:
                if reference in self._starting:
                    self._greet(reference)
                else:
                    worker, job = self._running.pop(reference)
                    self._receive(reference, worker, job, waiting)
            self._tell_of_waiting()
        return [self._outcomes[index] for index in range(len(tasks))]

    def _prepare(self, tasks: Sequence[Task], *, resume: bool) -> deque[_Job]:
        skipped = finished_before(tasks, self._models, self._outputs, self._listing) if resume else {}
        self._watcher.skips(len(skipped))
        waiting: deque[_Job] = deque()
        for index, task in enumerate(tasks):
            if index in skipped:
                self._end(task, skipped[index])
                continue
            try:
                key = task_key(content_of(task), options_for(task, self._models), self._models.identity())
            except Exception as error:  # noqa: BLE001 - one bad input must not stop the rest
                self._end(task, Outcome(task, "failed", error=error))
                continue
            waiting.append(_Job(task, self._outputs.target(task), key))
        return waiting

    def _send(self, worker: Any, job: _Job) -> None:
        job.started, job.tries = perf_counter(), job.tries + 1
        if job.tries == 1:
            self._watcher.starts(self._order[id(job.task)] + 1, self._total, job.task)
        try:
            content = _as_bytes(job.task)
        except (OSError, InputError) as error:  # it was there when the batch began
            cause = error if isinstance(error, InputError) else ImageError(f"cannot read an input: {error}")
            self._end(job.task, Outcome(job.task, "failed", job.key, error=cause))
            self._idle.append(worker)
            return
        reference = worker.make.remote(self._ray.put(content), job.target, self._around.command)
        self._running[reference] = (worker, job)

    def _receive(self, reference: Any, worker: Any, job: _Job, waiting: deque[_Job]) -> None:
        """Take one answer; a lost worker is replaced and its task tried again."""
        try:
            answer: Answer = self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            again = job.tries < MOST_TRIES
            self._watcher.lost(job.task, again)
            if again:
                waiting.append(job)
            else:
                lost = OutOfMemoryError(
                    f"the worker was lost {job.tries} times while making this, most likely out of memory; use fewer "
                    "workers or a smaller --octree-resolution"
                )
                self._end(job.task, Outcome(job.task, "failed", job.key, perf_counter() - job.started, error=lost))
            self._start_worker()
            return
        self._idle.append(worker)
        self._finish(job, answer)

    def _finish(self, job: _Job, answer: Answer) -> None:
        seconds = perf_counter() - job.started
        if answer.error is not None:
            self._end(job.task, Outcome(job.task, "failed", job.key, seconds, error=answer.error))
            return
        report = _with_paths(answer.report, job.task)
        try:
            written = write_files(answer.files)
            report["outputs"] = [vars(file) for file in written]
            write_report(report, job.target)
        except OSError as error:
            self._end(job.task, Outcome(job.task, "failed", job.key, seconds, error=error))
            return
        paths, preview = tuple(file.path for file in written), preview_of(report["outputs"])
        self._end(job.task, Outcome(job.task, "done", job.key, seconds, paths, preview, report))

    def _end(self, task: Task, outcome: Outcome) -> None:
        self._outcomes[self._order[id(task)]] = outcome
        if outcome.status in ("done", "failed"):
            self._listing.add(outcome)
        self._watcher.ends(outcome, None)

    def _cancel(self, jobs: Sequence[_Job]) -> None:
        error = Cancelled("cancelled; finished results are kept")
        for job in jobs:
            self._end(job.task, Outcome(job.task, "cancelled", job.key, error=error))

    def _start_worker(self) -> None:
        """Ask the cluster for one more worker; ``_greet`` takes it in when it is there."""
        worker = self._make_worker.remote(self._models.asked, self._many_views)
        self._starting[worker.pid.remote()] = worker

    def _greet(self, reference: Any) -> None:
        """A worker has come up, or has died while it did: then another is asked for, a few times."""
        worker = self._starting.pop(reference)
        self._heard = perf_counter()
        try:
            self._watcher.worker(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= MOST_TRIES:
                reason = str(error).strip().splitlines()[-1]
                raise MissingExtraError(
                    f"workers do not start on this Ray cluster: {reason}; every machine of it needs the packages of "
                    "requirements.txt",
                    package="ray",
                    command="python -m pip install -r requirements.txt",
                ) from error
            self._start_worker()
        else:
            self._idle.append(worker)

    def _tell_of_waiting(self) -> None:
        """When nothing runs because the cluster gives no worker, somebody should know."""
        if self._running or not self._starting:
            self._heard = perf_counter()
        elif perf_counter() - self._heard > PATIENCE_S:
            self._heard = perf_counter()
            self._watcher.waits()

    def _cores(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 1))


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        command = "python -m pip install 'hy3dgen-low-vram[ray]' (or: python -m pip install ray)"
        raise MissingExtraError(
            f"--ray needs the package ray; run: {command}", package="ray", command=command
        ) from error
    _ensure_somebody_answers(address)
    package = str(Path(hy3dgen.__file__).parent)
    quiet = {"include_dashboard": False} if address == LOCAL else {"runtime_env": {"py_modules": [package]}}
    try:
        with _own_signals():
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True, **quiet
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"no Ray cluster at '{address}': {reason}; start one with 'ray start --head'") from error
    return ray


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself while it starts, and exits on it; afterwards it means what it meant before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if earlier is not None:
            signal.signal(signal.SIGTERM, earlier)


def _ensure_somebody_answers(address: str) -> None:
    """Raise UsageError at once when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster at '{address}': {error}; start one with 'ray start --head', which prints its address"
        ) from error


def _as_bytes(task: Task) -> Task:
    """The task with its files' contents instead of their paths: workers may be on other machines."""
    pictures = {
        view: Path(source).read_bytes() if isinstance(source, (str, Path)) else source
        for view, source in task.pictures.items()
    }
    task = replace(task, pictures=pictures)
    if not isinstance(task.mesh, Path):
        return task
    return replace(task, mesh=read_mesh(task.mesh), mesh_sha256=mesh_hash(task.mesh))


def _with_paths(report: dict[str, Any], task: Task) -> dict[str, Any]:
    """The report with the paths that the worker never saw, so that it can be replayed."""
    paths = {view: str(source) for view, source in task.pictures.items() if isinstance(source, (str, Path))}
    if isinstance(task.mesh, Path):
        paths["mesh"] = str(task.mesh)
    inputs = [{**source, "path": paths.get(source["role"], source["path"])} for source in report["inputs"]]
    return {**report, "inputs": inputs, "folder": str(Path.cwd())}
