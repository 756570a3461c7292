"""The frame of every program: parse, check the installation, work, and turn any error into words and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

import hy3dgen
from hy3dgen.cli.console import Console
from hy3dgen.cli.exit_codes import BUG, DONE, exit_code
from hy3dgen.cli.installed import ensure_installed
from hy3dgen.cli.interrupt import terminating_as_interrupt
from hy3dgen.cli.options import Parser, argv_of
from hy3dgen.errors import Hy3dgenError

Work = Callable[[argparse.Namespace, Console, list[str]], int]


def run_program(make_parser: Callable[[], Parser], work: Work, argv: Sequence[str] | None) -> int:
    """Run ``work`` with the parsed options and a console; returns the exit code, never raises.

    The installation is checked after parsing, so that --help works in any environment.
    """
    words = argv_of(argv)
    _write_any_character()
    console = Console(quiet="--quiet" in words, verbose="-v" in words or "--verbose" in words)
    try:
        values = make_parser().parse_all(words)
        ensure_installed()
        with terminating_as_interrupt(), _messages(console, logging.DEBUG if _is_curious(words) else logging.INFO):
            return work(values, console, words)
    except SystemExit as end:  # argparse after --help and --version
        return end.code if isinstance(end.code, int) else DONE
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - so that the exit does not fail on it
        return DONE
    except KeyboardInterrupt as error:
        console.close()
        console.error("cancelled")
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        console.close()
        return explain(error, console)


def explain(error: BaseException, console: Console) -> int:
    """Say what went wrong in a line or two (with the traceback when verbose); returns the exit code."""
    if console.verbose:
        traceback.print_exception(error, file=sys.stderr)
    code = exit_code(error)
    if code != BUG:
        console.error(_words(error))
        return code
    console.error(f"{type(error).__name__}: {_words(error)}")
    console.error(
        f"this is a fault of the program (hy3dgen {hy3dgen.__version__}), not yours; please report it with the output "
        "of the same command with -v added"
    )
    return code


def _is_curious(words: Sequence[str]) -> bool:
    """Whether -v was given twice."""
    return sum(word in ("-v", "--verbose") for word in words) > 1


def _words(error: BaseException) -> str:
    if isinstance(error, Hy3dgenError):
        return str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        why = str(error) or "the machine could not give more"
        return f"out of memory: {why}; try a smaller --octree-resolution or --texture-size"
    first = (str(error) or type(error).__name__).splitlines()[0]
    return f"out of device memory: {first}" if type(error).__name__ == "OutOfMemoryError" else first


def _write_any_character() -> None:
    """File names may hold what the terminal's encoding does not: show it escaped rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _ToConsole(logging.Handler):
    """Shows log records in the console's own words, above its bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._console.error(words)
        elif record.levelno >= logging.WARNING:
            self._console.warn(words)
        else:
            self._console.detail(f"{record.name}: {words}")


@contextlib.contextmanager
def _messages(console: Console, most: int) -> Iterator[None]:
    """Our messages go to the console: warnings unless quiet, the rest with -v; chatter of other packages only with -v.

    most: the log level that is shown with -v.

    Everything is as before afterwards, since programs that embed us call ``main`` too.
    """
    ours, handler, verbose = logging.getLogger("hy3dgen"), _ToConsole(console), console.verbose
    level = ours.level
    with warnings.catch_warnings():
        if not verbose:
            warnings.simplefilter("ignore")
            for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
                os.environ.setdefault(name, "error")
        ours.addHandler(handler)
        ours.setLevel(most if verbose else logging.WARNING)
        try:
            yield
        finally:
            ours.removeHandler(handler)
            ours.setLevel(level)
