"""Ctrl-C and SIGTERM at every moment of a program, in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", ["color", "module"])
def test_a_signal_before_the_work_has_begun_is_a_cancel_too(number: int, program: str) -> None:
    """SIGTERM ended the process by the signal (143) while torch was being imported, and in every small program."""
    argv = {"color": ["--input", "x.png"], "module": ["weights", "list"]}[program]
    done = run(
        "import os, sys, time\n"
        f"from hy3dgen.cli import {program} as program\n"
        "def work(*args):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(60)\n"
        "program._work = work\n"
        f"sys.exit(program.main({argv}))\n"
    )
    assert done.returncode == 130
    assert done.stderr == "error: cancelled\n"


TWICE = (
    "import os, signal, sys, time\n"
    "from hy3dgen.cli.interrupt import stop_on_signals\n"
    "with stop_on_signals(lambda words: None) as event:\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "    assert event.is_set()\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "    time.sleep(60)\n"
)


def test_a_second_signal_ends_at_once() -> None:
    assert run(TWICE).returncode == 130


def test_a_second_signal_gives_the_terminal_its_cursor_back() -> None:
    """The progress display hides the cursor; ending at once left it hidden in the user's shell."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", TWICE], cwd=ROOT, stderr=theirs)
    os.close(theirs)
    assert process.wait(timeout=60) == 130
    assert b"\x1b[?25h" in os.read(ours, 4096)
    os.close(ours)
