"""Many tasks with the same models: one bad input does not stop the rest, and what is finished is not done again.

Every outcome becomes a line in batch.jsonl in the output folder, at once, so that a stopped batch can go on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from hy3dgen.errors import Cancelled, Hy3dgenError, OutputError
from hy3dgen.jobs.identity import content_of, inputs_key, task_key
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.output import Outputs, safe_stem
from hy3dgen.jobs.result import Result
from hy3dgen.jobs.run import Surroundings, options_for, run_task
from hy3dgen.jobs.task import Task
from hy3dgen.runtime.files import make_folder, reason, sha256_of_file

LIST_NAME = "batch.jsonl"
Status = Literal["done", "skipped", "failed", "cancelled"]


@dataclass(frozen=True)
class Outcome:
    """How one task of a batch ended. ``error`` when it failed; ``outputs`` are the paths that were written.

    preview: which of them is the preview
    """

    task: Task
    status: Status
    key: str = ""
    seconds: float = 0.0
    outputs: tuple[str, ...] = ()
    preview: str | None = None
    report: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    def as_dict(self) -> dict[str, Any]:
        """One line of batch.jsonl."""
        written = self.report.get("outputs", [])
        return {
            "name": self.task.name,
            "folder": self.task.folder.as_posix(),
            "input": str(self.task.pictures.get("front", self.task.prompt)),
            "status": self.status,
            "key": self.key,
            "seed": self.report.get("seed", self.task.seed),
            "seconds": round(self.seconds, 2),
            "outputs": [{name: o.get(name) for name in ("role", "path", "sha256")} for o in written],
            "faces": self.report.get("mesh", {}).get("faces"),
            "error": None if self.error is None else str(self.error),
            "kind": None if self.error is None else type(self.error).__name__,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Watcher:
    """Who is told about a batch: ``starts`` before each task with its number from 1, ``ends`` after it.

    worker: told the process id of every worker that is started, where there are any
    lost: told of a task whose worker was lost, and whether it is tried again
    waits: told now and then while no worker is to be had
    skips: told before the first task how many were finished by an earlier batch
    """

    starts: Callable[[int, int, Task], None] = lambda number, total, task: None
    ends: Callable[[Outcome, Result | None], None] = lambda outcome, result: None
    worker: Callable[[int], None] = lambda pid: None
    lost: Callable[[Task, bool], None] = lambda task, again: None
    waits: Callable[[], None] = lambda: None
    skips: Callable[[int], None] = lambda count: None


class BatchList:
    """batch.jsonl: one line a task, added as soon as it has ended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LIST_NAME
        make_folder(folder)

    def finished(self) -> dict[str, list[dict[str, str]]]:
        """Keys of finished tasks with the files they wrote; broken lines, as a cut-off last one, are passed over."""
        done: dict[str, list[dict[str, str]]] = {}
        if not self.path.is_file():
            return done
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("status") == "done" and entry.get("key"):
                done[entry["key"]] = entry.get("outputs") or []
        return done

    def add(self, outcome: Outcome) -> None:
        """Append one line and make it durable. Raises OutputError."""
        line = json.dumps(outcome.as_dict(), ensure_ascii=False) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"cannot write '{self.path}': {reason(error)}") from error


def run_batch(
    tasks: Sequence[Task],
    models: Models,
    outputs: Outputs,
    around: Surroundings,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> list[Outcome]:
    """Run every task; models load once. Returns one outcome a task, in order.

    models: made with ``keep_background``, or the background network is opened for every picture
    resume: skip tasks whose content and options were finished before and whose files are still what was written
    A task that fails leaves its error in its outcome; a cancel ends the batch, and the rest count as cancelled. Errors
    that would hit every task alike (the list cannot be written) are raised.
    """
    watcher = watcher or Watcher()
    listing = BatchList(outputs.folder())
    skipped = finished_before(tasks, models, outputs, listing) if resume else {}
    watcher.skips(len(skipped))
    outcomes: list[Outcome] = []
    for number, task in enumerate(tasks, start=1):
        watcher.starts(number, len(tasks), task)
        done = skipped.get(number - 1)
        outcome, result = (done, None) if done is not None else _run_one(task, models, outputs, around)
        outcomes.append(outcome)
        if outcome.status in ("done", "failed"):
            listing.add(outcome)
        watcher.ends(outcome, result)
        if outcome.status == "cancelled":
            rest = [Outcome(later, "cancelled", error=outcome.error) for later in tasks[number:]]
            return outcomes + rest
    return outcomes


def variations(tasks: Iterable[Task], count: int, first_seed: int) -> list[Task]:
    """Each task ``count`` times, with seeds from ``first_seed`` on and the seed in its name."""
    if count == 1:
        return list(tasks)
    seeds = range(first_seed, first_seed + count)
    return [
        replace(task, name=f"{task.name}_seed{seed}", seed=seed, variation_of=index)
        for index, task in enumerate(tasks)
        for seed in seeds
    ]


def finished_before(tasks: Sequence[Task], models: Models, outputs: Outputs, listing: BatchList) -> dict[int, Outcome]:
    """Index of each task that an earlier batch has finished, and whose files are still what was written -> outcome.

    Their names are reserved in ``outputs``, so that nothing is written over them. Tasks that cannot be read are passed
    over: they fail in their turn.
    """
    finished = listing.finished()
    skipped: dict[int, Outcome] = {}
    for index, task in enumerate(tasks):
        try:
            key = task_key(content_of(task), options_for(task, models), models.identity())
        except Hy3dgenError:
            continue
        files = finished.get(key, [])
        if still_there(files):
            paths = tuple(entry["path"] for entry in files)
            outputs.reserve(Path(path) for path in paths)
            skipped[index] = Outcome(task, "skipped", key, outputs=paths, preview=preview_of(files))
    return skipped


def preview_of(files: Iterable[dict[str, Any]]) -> str | None:
    """The path of the preview among the files of a result."""
    return next((str(file["path"]) for file in files if file.get("role") == "preview"), None)


def _run_one(task: Task, models: Models, outputs: Outputs, around: Surroundings) -> tuple[Outcome, Result | None]:
    started = perf_counter()
    key = ""
    try:
        outputs.check()  # a disk that has filled up meanwhile is told before the work, not after it
        # Hashed now and not when the batch began: a file may have changed while others were made.
        content = content_of(task)
        key = task_key(content, options_for(task, models), models.identity())
        inside = around
        if around.keep is not None:
            # Other options do not change the folder, so that the stages which they leave alone are found again.
            own = f"{safe_stem(task.name)}-{inputs_key(content, task.seed)[:8]}"
            inside = replace(around, keep=around.keep / task.folder / own)
        result = run_task(task, models, outputs.target(task), inside)
    except Cancelled as error:
        return Outcome(task, "cancelled", key, perf_counter() - started, error=error), None
    except KeyboardInterrupt:
        raise
    except Exception as error:  # noqa: BLE001 - one bad input must not stop the rest; the CLI turns it into a code
        if not isinstance(error, Hy3dgenError):
            error.add_note(f"while making {task.name}")
        return Outcome(task, "failed", key, perf_counter() - started, error=error), None
    written = result.report["outputs"]
    paths = tuple(file["path"] for file in written)
    return Outcome(task, "done", key, perf_counter() - started, paths, preview_of(written), result.report), result


def still_there(files: list[dict[str, str]]) -> bool:
    """Whether a finished task's files are there, unchanged."""
    paths = [(Path(entry["path"]), entry["sha256"]) for entry in files]
    return bool(paths) and all(path.is_file() and sha256_of_file(path) == digest for path, digest in paths)
