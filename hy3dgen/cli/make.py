"""What the two scripts share between parsing and the jobs: one road for one task and for many."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from hy3dgen.cli.console import Console, rest_words
from hy3dgen.cli.exit_codes import CANCELLED, DONE, exit_code, worst
from hy3dgen.cli.interrupt import stop_on_signals
from hy3dgen.cli.options import count_from, given
from hy3dgen.errors import UsageError
from hy3dgen.jobs.options import JobOptions, options_from
from hy3dgen.jobs.output import Outputs
from hy3dgen.jobs.task import Task
from hy3dgen.reports.text import summary

if TYPE_CHECKING:
    from hy3dgen.jobs.batch import Outcome
    from hy3dgen.jobs.models import Models
    from hy3dgen.jobs.result import Result
    from hy3dgen.jobs.run import Surroundings

OPTION_NAMES = (
    "model", "texture", "steps", "guidance", "octree_resolution", "decoder", "faces", "texture_size", "seed",
    "max_image_size", "rembg", "device", "dtype", "attention", "units", "up", "origin", "unwrap", "offline",
    "delight", "paint_steps", "delight_steps",
    "vram", "scenario", "vae_slicing", "vae_tiling", "allow_lossy", "compile",
)  # fmt: skip


@dataclass(frozen=True)
class Order:
    """What the user asked for, before anything heavy is imported.

    is_batch: several inputs, a folder or a glob: failures stay alone, and a list of outcomes is written
    count: variations of each task, with seeds counting up
    can_resume: whether the same command with --resume would go on after a stop
    ray: address of a Ray cluster to spread a batch over
    """

    tasks: Sequence[Task]
    options: JobOptions
    outputs: Outputs
    is_batch: bool = False
    count: int = 1
    resume: bool = False
    can_resume: bool = False
    ray: str | None = None
    keep: Path | None = None
    accept_licence: bool = False
    command: tuple[str, ...] = ()

    @property
    def many_views(self) -> bool:
        return any(len(task.pictures) > 1 for task in self.tasks)


def outputs_from(values: argparse.Namespace, *, many: bool) -> Outputs:
    """Where results go, from the output options."""
    return Outputs(
        output=path_from(values.output),
        many=many,
        overwrite=bool(values.overwrite),
        preview=path_from(values.preview),
        report=path_from(values.report),
        with_preview=not values.no_preview,
        with_report=not values.no_report,
    )


def path_from(words: str | None) -> Path | None:
    """A path as typed, with ~ expanded."""
    return None if words is None else Path(words).expanduser()


def replayed(values: argparse.Namespace, inputs: Sequence[str], command: tuple[str, ...]) -> Order:
    """The order that a report tells of. inputs: options that cannot go with --replay. Raises UsageError, InputError."""
    from hy3dgen.jobs.replay import options_of, task_of
    from hy3dgen.reports.run import read_report

    clash = [name for name in inputs if getattr(values, name) is not None]
    if clash:
        raise UsageError(f"--replay takes the inputs from the report; leave out --{clash[0]}")
    path = Path(values.replay).expanduser()
    report = read_report(path)
    count = count_from(values)
    return Order(
        tasks=[task_of(report, name=path.stem)],
        options=options_of(report, given(values, OPTION_NAMES)),
        outputs=outputs_from(values, many=count > 1),
        count=count,
        keep=path_from(values.keep),
        accept_licence=bool(values.accept_licence),
        command=command,
    )


def show_plan(values: argparse.Namespace, console: Console, *, many_views: bool = False) -> int:
    """Print the memory plan for the options and end; needs neither inputs nor weights."""
    from hy3dgen.jobs.memory import describe
    from hy3dgen.jobs.models import plan_without_weights

    options = options_from(given(values, OPTION_NAMES))
    console.result(describe(plan_without_weights(options, many_views=many_views, has_shape=values.mesh is None)))
    return DONE


def fulfil(order: Order, console: Console) -> int:
    """Do what was ordered; returns the exit code. Raises the errors of a single task."""
    if order.resume and not order.is_batch and order.count == 1:
        raise UsageError(
            "--resume is for batches and --count; for one picture use --keep DIR, which keeps finished stages"
        )
    if order.ray is not None and not order.is_batch and order.count == 1:
        raise UsageError("--ray is for batches; give several pictures, a folder, a glob or --count")
    # Whatever is wrong with a single input or with the output is said before torch is even imported.
    if not order.is_batch:
        _look_at(order.tasks[0])
    order.outputs.protect(path for task in order.tasks for path in task.files())
    order.outputs.check()
    from hy3dgen.cli.weights import download_options
    from hy3dgen.jobs.models import Models
    from hy3dgen.jobs.run import Surroundings

    with console, stop_on_signals(console.say) as event:
        download = download_options(order.accept_licence, console, event)
        has_shape = any(task.mesh is None for task in order.tasks)
        several = order.is_batch or order.count > 1
        models = Models(
            order.options,
            many_views=order.many_views,
            has_shape=has_shape,
            keep_background=several,
            download=download,
        )
        if order.options.vram is not None and models.engine is None:
            console.say("--vram is ignored on the CPU, which has no memory of its own")
        if has_shape:
            introduce(models, console)
        around = Surroundings(listener=console, cancel_event=event, keep=order.keep, command=order.command)
        if several:
            return _many(order, models, around, console)
        return _one(order, models, around, console)


def introduce(models: Models, console: Console) -> None:
    """Say which model runs and, for the built-in one, what it is not."""
    if not models.is_built_in:
        console.say(f"model {models.name} on {models.machine()['device']}")
        if models.asked.texture == "auto" and models.options.texture == "project":
            console.say(
                "the official texture weights are not here, so the picture itself is projected; get them with: "
                "python -m hy3dgen weights get paint-turbo, and get delight"
            )
        return
    from hy3dgen.weights import catalogue

    size_gb = catalogue.entry("2").download_bytes / 1e9
    console.say(
        "model nano, built in for a quick first result: no rival of the official weights "
        f"({size_gb:.1f} GB; get them with: python -m hy3dgen weights get 2)"
    )


def _look_at(task: Task) -> None:
    from hy3dgen.jobs.pictures import open_pictures

    if task.prompt is not None:
        from hy3dgen.text2image import ensure_here

        ensure_here()
    open_pictures(task.pictures)
    if isinstance(task.mesh, Path) and not task.mesh.is_file():
        from hy3dgen.errors import MeshError

        what = "is a folder, not a mesh" if task.mesh.is_dir() else "does not exist"
        raise MeshError(f"'{task.mesh}' {what}; give the path of a .glb, .obj, .ply or .stl file")


def _one(order: Order, models: Models, around: Surroundings, console: Console) -> int:
    from hy3dgen.jobs.run import run_task

    [task] = order.tasks
    target = order.outputs.target(task)
    result = run_task(task, models, target, around)
    console.close()
    if result.resumed:
        console.say(f"taken from an earlier run: {', '.join(result.resumed)}")
    console.say(f"{summary(result.report)} · {result.report['seconds']:.1f} s")
    for written in result.report["outputs"]:
        console.result(written["path"])
    if target.report is not None:
        console.result(str(target.report))
    return DONE


def _many(order: Order, models: Models, around: Surroundings, console: Console) -> int:
    from hy3dgen.cli.table import outcome_table
    from hy3dgen.jobs.batch import Watcher, run_batch, variations
    from hy3dgen.jobs.sheet import Sheets

    tasks = variations(order.tasks, order.count, models.options.seed)
    sheets = Sheets(order.count)
    began, made, to_make = perf_counter(), 0, len(tasks)

    def skips(finished: int) -> None:
        nonlocal to_make
        to_make -= finished

    def starts(number: int, total: int, task: Task) -> None:
        console.new_item(
            f"[{number}/{total}] {task.folder / task.name}{time_left(perf_counter() - began, made, to_make)}"
        )

    def ends(outcome: Outcome, result: Result | None) -> None:
        nonlocal made
        made += outcome.status != "skipped"
        if outcome.status == "cancelled":
            return
        if outcome.error is not None:
            console.problem(outcome.error, f"{outcome.task.name}: ")
        if outcome.report:
            console.say(f"{summary(outcome.report)} · {outcome.seconds:.1f} s")
        for path in outcome.outputs:
            console.result(path)
        sheets.add(outcome, result)

    def lost(task: Task, again: bool) -> None:
        console.warn(f"{task.name}: its worker was lost; " + ("trying again" if again else "given up"))

    def waits() -> None:
        console.say("waiting for the Ray cluster to give a worker; 'ray status' tells what its machines are busy with")

    watcher = Watcher(starts, ends, skips=skips, lost=lost, waits=waits)
    if order.ray is None:
        outcomes = run_batch(tasks, models, order.outputs, around, resume=order.resume, watcher=watcher)
    else:
        from hy3dgen.jobs.ray_batch import run_ray_batch

        outcomes = run_ray_batch(
            tasks, models, order.outputs, around, address=order.ray, resume=order.resume, watcher=watcher
        )
    console.close()
    for path in sheets.write(order.outputs):
        console.result(str(path))
    if outcomes and outcomes[-1].status == "cancelled":
        ways = "--resume goes on from here" if order.can_resume else "nothing half-written stays"
        console.error(f"cancelled; finished results are kept, {ways}")
    console.say(outcome_table(outcomes))
    return worst([_code(outcome) for outcome in outcomes])


def time_left(elapsed_s: float, made: int, to_make: int) -> str:
    """', about 3 min left' after ``made`` of the tasks that are to be made; '' before the first and after the last."""
    return f", about {rest_words(elapsed_s / made * (to_make - made))} left" if 0 < made < to_make else ""


def _code(outcome: Outcome) -> int:
    if outcome.status == "cancelled":
        return CANCELLED
    return DONE if outcome.error is None else exit_code(outcome.error)
