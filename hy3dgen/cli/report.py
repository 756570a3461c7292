"""``python -m hy3dgen report FILE``."""

from __future__ import annotations

import argparse
from pathlib import Path

from hy3dgen.cli.console import Console
from hy3dgen.cli.exit_codes import DONE
from hy3dgen.reports.run import read_report
from hy3dgen.reports.text import describe


def show_report(values: argparse.Namespace, console: Console) -> int:
    """Print the report of a run, from its JSON file or from inside the GLB."""
    console.result(describe(read_report(Path(values.file).expanduser())))
    return DONE
