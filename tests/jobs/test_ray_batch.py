"""A batch on a local Ray cluster of CPUs, with a worker killed in the middle."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.errors import MissingExtraError, UsageError
from hy3dgen.jobs import ray_batch
from hy3dgen.jobs.batch import Outcome, Watcher, run_batch
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.output import Outputs
from hy3dgen.jobs.run import Surroundings
from hy3dgen.jobs.task import Task
from hy3dgen.runtime.files import sha256_of_file
from tests.cli.pictures import QUICK_OPTIONS, save_mug

OPTIONS = JobOptions(**QUICK_OPTIONS, texture="none", preview=False)  # type: ignore[arg-type]


def tasks_in(folder: Path) -> list[Task]:
    colours = [(200, 60, 40), (20, 90, 200), (60, 160, 60)]
    paths = [save_mug(folder / f"{index}.png", colour) for index, colour in enumerate(colours)]
    bad = folder / "bad.png"
    bad.write_text("no picture")
    return [Task(name=path.stem, pictures={"front": path}) for path in (*paths, bad)]


def test_without_ray_the_sentence_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        ray_batch.run_ray_batch([], Models(OPTIONS), Outputs(tmp_path, many=True), Surroundings())


def test_keep_does_not_go_with_ray(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--keep does not go with --ray"):
        ray_batch.run_ray_batch([], Models(OPTIONS), Outputs(tmp_path, many=True), Surroundings(keep=tmp_path))


@pytest.mark.extra
def test_an_address_where_nobody_listens_is_told_at_once(tmp_path: Path) -> None:
    """Ray tried for more than a minute and filled the screen with its own lines."""
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match=r"no Ray cluster at '127\.0\.0\.1:9'"):
        ray_batch.run_ray_batch(
            [], Models(OPTIONS), Outputs(tmp_path, many=True), Surroundings(), address="127.0.0.1:9"
        )


@pytest.mark.extra
def test_a_killed_worker_loses_nothing_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tasks = tasks_in(tmp_path / "in")
    pids: list[int] = []
    ends: list[Outcome] = []
    killed: list[int] = []

    def starts(number: int, total: int, task: Task) -> None:
        if task.name == "1" and not killed:
            killed.append(pids[-1])
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    watcher = Watcher(starts, lambda outcome, result: ends.append(outcome), worker=pids.append)
    models, outputs = Models(OPTIONS), Outputs(tmp_path / "out", many=True)
    options: dict[str, Any] = {"watcher": watcher, "workers": 2}
    outcomes = ray_batch.run_ray_batch(tasks, models, outputs, Surroundings(), **options)
    assert [outcome.status for outcome in outcomes] == ["done", "done", "done", "failed"]
    assert len(ends) == 4, "every task ends once"
    assert len(pids) > 2, "a new worker took over"
    assert sorted(p.name for p in (tmp_path / "out").glob("*.glb")) == ["0.glb", "1.glb", "2.glb"]

    here = run_batch(tasks[:1], models, Outputs(tmp_path / "here", many=True), Surroundings())
    assert here[0].status == "done"
    same = {sha256_of_file(tmp_path / folder / "0.glb") for folder in ("out", "here")}
    assert len(same) == 1, "a worker makes what this process makes"
    again = ray_batch.run_ray_batch(tasks[:3], models, outputs, Surroundings(), resume=True)
    assert [outcome.status for outcome in again] == ["skipped"] * 3
