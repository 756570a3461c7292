"""``color.py``: one picture, or many, to coloured meshes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hy3dgen.cli import options as groups
from hy3dgen.cli.console import Console
from hy3dgen.cli.make import OPTION_NAMES, Order, fulfil, outputs_from, path_from, replayed, show_plan
from hy3dgen.cli.program import run_program
from hy3dgen.errors import UsageError
from hy3dgen.jobs.inputs import tasks_from_inputs
from hy3dgen.jobs.options import options_from
from hy3dgen.jobs.output import DEFAULT_FOLDER
from hy3dgen.jobs.task import Task


def make_parser() -> groups.Parser:
    """The parser of color.py."""

    def add_inputs(parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("input")
        group.add_argument(
            "--input",
            metavar="PATH",
            nargs="+",
            action="extend",
            help="pictures in any format that Pillow opens; several files, a folder or a glob make a batch",
        )
        groups.add_input_path(group, "--mesh", "colour this mesh (.glb, .obj, .ply, .stl), make no shape")
        group.add_argument("--prompt", metavar="TEXT", help="make the picture from these words first")

    text = "Make a coloured 3D mesh from a picture."
    return groups.make_parser("color.py", text, (add_inputs, *groups.SHARED_GROUPS, groups.add_batch_options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run color.py with ``argv``; returns the exit code."""
    return run_program(make_parser, _work, argv)


def _work(values: argparse.Namespace, console: Console, argv: list[str]) -> int:
    if values.plan:
        return show_plan(values, console)
    return fulfil(order_from(values, argv), console)


def order_from(values: argparse.Namespace, argv: Sequence[str]) -> Order:
    """What the user asked for. Raises UsageError for options that do not go together."""
    if values.replay is not None:
        return replayed(values, ("input", "mesh", "prompt", "resume", "ray"), ("color.py", *argv))
    options = options_from(groups.given(values, OPTION_NAMES))
    tasks, is_batch = _tasks(values)
    count = groups.count_from(values)
    return Order(
        tasks=tasks,
        options=options,
        outputs=outputs_from(values, many=is_batch or count > 1),
        is_batch=is_batch,
        count=count,
        resume=bool(values.resume),
        can_resume=True,
        ray=values.ray,
        keep=path_from(values.keep),
        accept_licence=bool(values.accept_licence),
        command=("color.py", *argv),
    )


def _tasks(values: argparse.Namespace) -> tuple[list[Task], bool]:
    mesh = path_from(values.mesh)
    if values.input is None:
        if values.prompt is None:
            what = "a picture of the mesh's front" if mesh is not None else "a picture"
            raise UsageError(f"there is nothing to work from; give {what} with --input PATH, or words with --prompt")
        name = mesh.stem if mesh is not None else "_".join(values.prompt.split()[:6])
        return [Task(name=name, prompt=values.prompt, mesh=mesh)], False
    if values.prompt is not None:
        raise UsageError("give --input or --prompt, not both: the prompt makes the picture")
    results = [path_from(values.output) or DEFAULT_FOLDER, *filter(None, [path_from(values.keep)])]
    tasks, is_batch = tasks_from_inputs(values.input, results=results)
    if mesh is None:
        return tasks, is_batch
    if is_batch:
        raise UsageError("--mesh colours one mesh with one picture; give one file with --input")
    front = Path(str(tasks[0].pictures["front"]))
    return [Task(name=mesh.stem, pictures={"front": front}, mesh=mesh)], False
