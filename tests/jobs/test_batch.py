"""Batches: failures stay alone, a cancel ends one, names and kept stages never clash. The jobs are stand-ins."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hy3dgen.cli.make import _code, time_left
from hy3dgen.cli.table import outcome_table
from hy3dgen.errors import Cancelled, ImageError
from hy3dgen.jobs import batch, identity
from hy3dgen.jobs.batch import LIST_NAME, Watcher, run_batch, variations
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.output import Outputs, Target
from hy3dgen.jobs.result import Result
from hy3dgen.jobs.run import Surroundings
from hy3dgen.jobs.sheet import CELL_PX, LABEL_PX, Sheets
from hy3dgen.jobs.task import Task
from hy3dgen.runtime.files import sha256_of_file


@pytest.fixture
def models() -> Models:
    return Models(JobOptions(model="nano", device="cpu"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path | None]]:
    """Replaces the job: writes the name into the mesh file; names tell what goes wrong. Remembers what was made."""
    done: list[tuple[str, Path | None]] = []

    def run_task(task: Task, models: Models, target: Target, around: Surroundings) -> Result:
        if around.cancel_event is not None and around.cancel_event.is_set():
            raise Cancelled("cancelled")
        if task.name == "bad":
            raise ImageError("no picture")
        if task.name == "bug":
            raise ZeroDivisionError("oops")
        done.append((task.name, around.keep))
        target.mesh.parent.mkdir(parents=True, exist_ok=True)
        target.mesh.write_text(task.name)
        output = {"path": str(target.mesh), "sha256": sha256_of_file(target.mesh)}
        report: dict[str, Any] = {"outputs": [output], "mesh": {"faces": 7}, "seed": task.seed}
        return Result(None, report, None, {}, {})  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "run_task", run_task)
    return done


def tasks(folder: Path, *names: str) -> list[Task]:
    for index, name in enumerate(names):
        (folder / f"{index}").write_text(name)
    return [Task(name=name, pictures={"front": folder / f"{index}"}) for index, name in enumerate(names)]


def test_every_failure_stays_alone_and_has_its_code(models: Models, made: list[Any], tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "out", many=True)
    outcomes = run_batch(tasks(tmp_path, "a", "bad", "bug", "b"), models, outputs, Surroundings())
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "failed", "done"]
    assert [_code(outcome) for outcome in outcomes] == [0, 3, 1, 0]
    lines = [json.loads(line) for line in (tmp_path / "out" / LIST_NAME).read_text().splitlines()]
    assert [(line["name"], line["kind"]) for line in lines] == [
        ("a", None), ("bad", "ImageError"), ("bug", "ZeroDivisionError"), ("b", None),
    ]  # fmt: skip
    table = outcome_table(outcomes)
    assert "4 in all: 2 done, 2 failed" in table and "no picture" in table
    assert outcome_table([]).endswith("nothing to do")


def test_a_cancel_ends_the_batch_and_keeps_what_is_done(models: Models, made: list[Any], tmp_path: Path) -> None:
    event = threading.Event()

    def starts(number: int, total: int, task: Task) -> None:
        if number == 2:
            event.set()

    outcomes = run_batch(
        tasks(tmp_path, "a", "b", "c"),
        models,
        Outputs(tmp_path / "out", many=True),
        Surroundings(cancel_event=event),
        watcher=Watcher(starts),
    )
    assert [outcome.status for outcome in outcomes] == ["done", "cancelled", "cancelled"]
    assert _code(outcomes[1]) == 130 and len(made) == 1
    again = run_batch(
        tasks(tmp_path, "a", "b", "c"), models, Outputs(tmp_path / "out", many=True), Surroundings(), resume=True
    )
    assert [outcome.status for outcome in again] == ["skipped", "done", "done"]


def test_what_is_skipped_does_not_count_as_work_that_is_left(models: Models, made: list[Any], tmp_path: Path) -> None:
    """With --resume the time left was that of all tasks: minutes for what took no time."""
    run_batch(tasks(tmp_path, "a", "b", "c"), models, Outputs(tmp_path / "out", many=True), Surroundings())
    told: list[int] = []
    outputs, watcher = Outputs(tmp_path / "out", many=True), Watcher(skips=told.append)
    run_batch(tasks(tmp_path, "x", "b", "c"), models, outputs, Surroundings(), resume=True, watcher=watcher)
    assert told == [2]
    assert [time_left(60, made, 3) for made in range(4)] == ["", ", about 2 min left", ", about 30 s left", ""]


def test_a_file_that_was_changed_since_is_made_again(models: Models, made: list[Any], tmp_path: Path) -> None:
    run_batch(tasks(tmp_path, "a"), models, Outputs(tmp_path / "out", many=True), Surroundings())
    (tmp_path / "out" / "a.glb").write_text("scribbled over")
    outputs = Outputs(tmp_path / "out", many=True, overwrite=True)
    [outcome] = run_batch(tasks(tmp_path, "a"), models, outputs, Surroundings(), resume=True)
    assert outcome.status == "done" and (tmp_path / "out" / "a.glb").read_text() == "a"


def test_an_input_is_hashed_once_for_all_its_keys(
    models: Models, made: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of the result and that of the kept stages read and hashed every input each for itself."""
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256_of_file(path)

    monkeypatch.setattr(identity, "sha256_of_file", counted)
    around = Surroundings(keep=tmp_path / "kept")
    run_batch(tasks(tmp_path, "a", "b"), models, Outputs(tmp_path / "out", many=True), around)
    assert read == ["0", "1"] and len(made) == 2


def test_a_changed_input_of_the_same_name_is_made_again(models: Models, made: list[Any], tmp_path: Path) -> None:
    run_batch(tasks(tmp_path, "a", "b"), models, Outputs(tmp_path / "out", many=True), Surroundings())
    again = tasks(tmp_path, "a", "b")
    (tmp_path / "1").write_text("another picture")
    outcomes = run_batch(again, models, Outputs(tmp_path / "out", many=True), Surroundings(), resume=True)
    assert [outcome.status for outcome in outcomes] == ["skipped", "done"]
    assert outcomes[1].outputs == (str(tmp_path / "out" / "b-2.glb"),)


def test_other_options_are_other_results(models: Models, made: list[Any], tmp_path: Path) -> None:
    run_batch(tasks(tmp_path, "a"), models, Outputs(tmp_path / "out", many=True), Surroundings())
    changed = Models(JobOptions(model="nano", device="cpu", steps=3))
    [outcome] = run_batch(
        tasks(tmp_path, "a"), changed, Outputs(tmp_path / "out", many=True), Surroundings(), resume=True
    )
    assert outcome.status == "done" and outcome.outputs == (str(tmp_path / "out" / "a-2.glb"),)


def test_a_finished_result_is_never_written_over_by_its_namesake(
    models: Models, made: list[Any], tmp_path: Path
) -> None:
    """With --resume --overwrite the second 'a', whose file was lost, took the name of the first, finished one."""
    twins = tasks(tmp_path, "a", "a")
    (tmp_path / "1").write_text("another picture")
    folder = tmp_path / "out"
    run_batch(twins, models, Outputs(folder, many=True), Surroundings())
    (folder / "a-2.glb").unlink()
    first = sha256_of_file(folder / "a.glb")
    again = run_batch(twins, models, Outputs(folder, many=True, overwrite=True), Surroundings(), resume=True)
    assert [outcome.status for outcome in again] == ["skipped", "done"]
    assert again[1].outputs == (str(folder / "a-2.glb"),)
    assert sha256_of_file(folder / "a.glb") == first


def test_a_disk_that_has_filled_up_is_told_before_the_work(
    models: Models, made: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = Outputs(tmp_path / "out", many=True)
    monkeypatch.setattr("hy3dgen.jobs.output.NEEDED_BYTES", 1 << 60)
    outcomes = run_batch(tasks(tmp_path, "a", "b"), models, outputs, Surroundings())
    assert [_code(outcome) for outcome in outcomes] == [6, 6] and made == []


def test_other_options_keep_the_folder_of_kept_stages(models: Models, made: list[Any], tmp_path: Path) -> None:
    """The folder was named after the options, too, so a larger texture did the whole shape again."""
    around = Surroundings(keep=tmp_path / "keep")
    changed = Models(JobOptions(model="nano", device="cpu", texture_size=1024))
    for chosen in (models, changed):
        run_batch(tasks(tmp_path, "a"), chosen, Outputs(tmp_path / "out", many=True), around)
    assert len({keep for _, keep in made}) == 1


def test_equal_names_share_neither_files_nor_kept_stages(models: Models, made: list[Any], tmp_path: Path) -> None:
    twins = tasks(tmp_path, "a", "a")
    (tmp_path / "1").write_text("another picture")
    around = Surroundings(keep=tmp_path / "keep")
    outcomes = run_batch(twins, models, Outputs(tmp_path / "out", many=True), around)
    assert [Path(outcome.outputs[0]).name for outcome in outcomes] == ["a.glb", "a-2.glb"]
    assert len({keep for _, keep in made}) == 2


def test_variations_count_seeds_up_and_carry_them_in_their_names(tmp_path: Path) -> None:
    [task] = tasks(tmp_path, "a")
    assert variations([task], 1, 5) == [task]
    assert [(t.name, t.seed) for t in variations([task], 3, 5)] == [("a_seed5", 5), ("a_seed6", 6), ("a_seed7", 7)]


def test_inputs_of_equal_names_have_a_contact_sheet_each(tmp_path: Path) -> None:
    """x/a.png and y/a.png, given as files, shared one sheet; variations in files count as well (skipped, from Ray)."""
    many = variations(tasks(tmp_path, "a", "a"), 2, 5)
    sheets = Sheets(2)
    preview = tmp_path / "preview.png"
    Image.new("RGB", (64, 64), "red").save(preview)
    for task in reversed(many):
        sheets.add(batch.Outcome(task, "done", preview=str(preview)), None)
    outputs = Outputs(tmp_path / "out", many=True)
    assert [path.name for path in sheets.write(outputs)] == ["a_sheet.png", "a_sheet-2.png"]
    with Image.open(tmp_path / "out" / "a_sheet.png") as sheet:
        assert sheet.size == (2 * CELL_PX, CELL_PX + LABEL_PX)
    unchanged = Sheets(2)
    for task in many:
        unchanged.add(batch.Outcome(task, "skipped", preview=str(preview)), None)
    assert unchanged.write(outputs) == [], "nothing is new, so the sheet of before is right"


def test_a_missing_picture_fails_alone(models: Models, made: list[Any], tmp_path: Path) -> None:
    gone = Task(name="gone", pictures={"front": tmp_path / "gone.png"})
    outcomes = run_batch([gone, *tasks(tmp_path, "a")], models, Outputs(tmp_path / "o", many=True), Surroundings())
    assert [outcome.status for outcome in outcomes] == ["failed", "done"]
    assert isinstance(outcomes[0].error, ImageError)
