"""``python -m hy3dgen COMMAND``: the parser of the small programs beside the two scripts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hy3dgen.cli.console import Console
from hy3dgen.cli.options import Parser, make_parser
from hy3dgen.cli.program import run_program


def parser() -> Parser:
    """The parser of ``python -m hy3dgen``."""
    return make_parser(
        "python -m hy3dgen", "Look after hy3dgen: this machine, the weights, the reports.", (_add_commands,)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run_program(parser, _work, argv)


def _add_commands(top: argparse.ArgumentParser) -> None:
    top.add_argument("-v", "--verbose", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    _add_doctor(commands)
    _add_weights(commands)
    _add_report(commands)


def _add_doctor(commands: argparse._SubParsersAction[Parser]) -> None:
    doctor = commands.add_parser(
        "doctor", help="what this machine can run, what is missing and the command that mends it"
    )
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def _add_weights(commands: argparse._SubParsersAction[Parser]) -> None:
    weights = commands.add_parser("weights", help="list, get, verify or find model weights")
    verbs = weights.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=Parser)
    listing = verbs.add_parser("list", help="every known model: size, licence, and where it is on this machine")
    listing.add_argument("--json", action="store_true", help="print a JSON list instead of text")
    get = verbs.add_parser("get", help="download a model's weights; an interrupted download goes on where it stopped")
    get.add_argument("name", metavar="NAME", help="a name from 'weights list'")
    get.add_argument("--accept-licence", action="store_true", help="you have read and accept the owner's licence")
    get.add_argument("--offline", action="store_true", help="only look on this machine")
    verify = verbs.add_parser("verify", help="check size, structure and hash of a model's files")
    verify.add_argument(
        "name", metavar="NAME", nargs="?", help="a name or a folder (default: every model that is here)"
    )
    path = verbs.add_parser("path", help="print the folder of a model on this machine")
    path.add_argument("name", metavar="NAME", help="a name from 'weights list'")


def _add_report(commands: argparse._SubParsersAction[Parser]) -> None:
    report = commands.add_parser("report", help="print a run's report for people")
    report.add_argument("file", metavar="FILE", help="the .json report, or the .glb itself")


def _work(values: argparse.Namespace, console: Console, argv: list[str]) -> int:
    if values.command == "report":
        from hy3dgen.cli.report import show_report

        return show_report(values, console)
    if values.command == "weights":
        from hy3dgen.cli.weights import manage_weights

        return manage_weights(values, console)
    from hy3dgen.cli.doctor import show_diagnosis

    return show_diagnosis(values, console)
