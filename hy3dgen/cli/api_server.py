"""``api_server.py``: the REST API over a queue of jobs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hy3dgen.cli import options as groups
from hy3dgen.cli.console import Console
from hy3dgen.cli.program import run_program
from hy3dgen.cli.serving import SERVING_GROUPS, serve


def make_parser() -> groups.Parser:
    """The parser of api_server.py."""
    text = "Serve the REST API: pictures in, textured 3D meshes out. docs/rest-api.md describes it."
    return groups.make_parser("api_server.py", text, (*SERVING_GROUPS, groups.add_talk_options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run api_server.py with ``argv``; returns the exit code."""
    return run_program(make_parser, _work, argv)


def _work(values: argparse.Namespace, console: Console, argv: list[str]) -> int:
    return serve(values, console)
