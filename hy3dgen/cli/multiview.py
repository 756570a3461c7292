"""``multiview.py``: several pictures of one object, each from its side, to one coloured mesh."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hy3dgen.cli import options as groups
from hy3dgen.cli.console import Console
from hy3dgen.cli.make import OPTION_NAMES, Order, fulfil, outputs_from, path_from, replayed, show_plan
from hy3dgen.cli.program import run_program
from hy3dgen.errors import UsageError
from hy3dgen.jobs.inputs import views_in_folder
from hy3dgen.jobs.options import options_from
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG, Task


def make_parser() -> groups.Parser:
    """The parser of multiview.py."""

    def add_inputs(parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("input")
        groups.add_input_path(group, "--front", "the object from the front; the other views are optional")
        groups.add_input_path(group, "--left", "from the object's own left side")
        groups.add_input_path(group, "--back", "from behind")
        groups.add_input_path(group, "--right", "from the object's own right side")
        views = "instead: a folder with front.png and any of left.png, back.png, right.png"
        groups.add_input_path(group, "--input", views, metavar="FOLDER")
        groups.add_input_path(group, "--mesh", "colour this mesh (.glb, .obj, .ply, .stl), make no shape")

    text = "Make a coloured 3D mesh from several pictures of one object."
    return groups.make_parser("multiview.py", text, (add_inputs, *groups.SHARED_GROUPS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run multiview.py with ``argv``; returns the exit code."""
    return run_program(make_parser, _work, argv)


def _work(values: argparse.Namespace, console: Console, argv: list[str]) -> int:
    if values.plan:
        return show_plan(values, console, many_views=True)
    return fulfil(order_from(values, argv), console)


def order_from(values: argparse.Namespace, argv: Sequence[str]) -> Order:
    """What the user asked for. Raises UsageError for views that are missing or given twice."""
    if values.replay is not None:
        inputs = (*VIEW_AZIMUTHS_DEG, "input", "mesh")
        return replayed(values, inputs, ("multiview.py", *argv))
    count = groups.count_from(values)
    return Order(
        tasks=[_task(values)],
        options=options_from(groups.given(values, OPTION_NAMES)),
        outputs=outputs_from(values, many=count > 1),
        count=count,
        keep=path_from(values.keep),
        accept_licence=bool(values.accept_licence),
        command=("multiview.py", *argv),
    )


def _task(values: argparse.Namespace) -> Task:
    given = {view: getattr(values, view) for view in VIEW_AZIMUTHS_DEG}
    views = {view: Path(words).expanduser() for view, words in given.items() if words is not None}
    mesh = path_from(values.mesh)
    if values.input is None:
        if "front" not in views:
            raise UsageError("the front view is missing; give --front PATH, or a folder of views with --input FOLDER")
        return Task(name=views["front"].stem if mesh is None else mesh.stem, pictures=views, mesh=mesh)
    if views:
        raise UsageError("give the views by --front, --left, --back and --right, or by --input FOLDER, not both")
    folder = Path(values.input).expanduser()
    name = folder.resolve().name if mesh is None else mesh.stem
    return Task(name=name, pictures=views_in_folder(folder), mesh=mesh)
