"""The progress display: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io

import pytest

from hy3dgen.cli import console as console_module
from hy3dgen.cli.console import STAGE_WORDS, Console, Pace
from hy3dgen.runtime.stages import STAGE_NAMES, StageRecord, recording, stage, steps


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(console: Console) -> None:
    with console, recording(listener=console):
        with stage("denoise") as record:
            for _ in steps(range(3)):
                pass
            record.warn("it was dark")
            record.warn("it was dark")
        with stage("export"):
            pass


def test_every_stage_has_words() -> None:
    assert set(STAGE_WORDS) == set(STAGE_NAMES)


def test_plain_lines_have_one_line_a_stage_with_its_time() -> None:
    stream = io.StringIO()
    work(Console(error_stream=stream))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "warning: it was dark"
    assert "Finding the shape: 0.0 s" in lines[1] and "Writing: 0.0 s" in lines[2]


def test_more_words_when_asked() -> None:
    stream = io.StringIO()
    work(Console(verbose=True, error_stream=stream))
    assert "(3 steps)" in stream.getvalue()


def test_a_terminal_gets_bars() -> None:
    stream = Terminal()
    work(Console(error_stream=stream))
    shown = stream.getvalue()
    assert "Finding the shape" in shown and "3/3" in shown and "it was dark" in shown
    assert shown.count("\n") < 40


def test_a_batch_on_a_terminal_shows_the_bars_of_one_input_at_a_time() -> None:
    """The bars of all inputs piled up until the terminal was full."""
    stream = Terminal()
    console = Console(error_stream=stream)
    with console:
        for name in "abc":
            console.new_item(name)
            with recording(listener=console), stage("denoise"):
                pass
        assert console._progress is not None
        assert len(console._progress.tasks) == 1


def test_quiet_is_silent_but_for_errors_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    console = Console(quiet=True, error_stream=stream)
    work(console)
    assert stream.getvalue() == ""
    console.error("no")
    console.problem(ValueError("bad\nmore"), "x: ")
    console.result("out.glb")
    assert stream.getvalue() == "error: no\nerror: x: bad\n"
    assert capsys.readouterr().out == "out.glb\n"


def test_a_warning_is_said_once_for_each_input() -> None:
    stream = io.StringIO()
    console = Console(error_stream=stream)
    for name in ("a", "b"):
        console.new_item(name)
        work(console)
    assert stream.getvalue().count("it was dark") == 2


def test_a_long_stage_says_how_far_it_is_where_nobody_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log, ten minutes of sampling were ten minutes without a word."""
    monkeypatch.setattr(console_module, "SILENCE_S", 0.0)
    monkeypatch.setattr(console_module, "SURE_AFTER_S", 0.0)
    stream = io.StringIO()
    work(Console(error_stream=stream))
    assert "Finding the shape: 2/3, about 5 s left" in stream.getvalue()


def test_the_rest_is_told_from_the_pace_after_the_first_step() -> None:
    pace, record = Pace(), StageRecord("denoise", steps_total=51)
    assert pace.left(record, now=0.0) == ""
    record.steps_done = 1
    assert pace.left(record, now=60.0) == "", "the first step, with its warming up, tells nothing"
    record = StageRecord("denoise", steps_done=1, steps_total=51)
    pace.left(record, now=60.0)
    record.steps_done = 11
    assert pace.left(record, now=80.0) == "80 s"
    record.steps_done = 21
    assert pace.left(record, now=60.0 + 20 * 60) == "30 min"
    assert pace.left(StageRecord("decode", steps_done=4), now=90.0) == "", "no total, no rest"


def test_a_download_has_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    console = Console(error_stream=stream)
    for done in (0, 400_000_000, 1_000_000_000):
        console.transfer("unet/model.safetensors", done, 1_000_000_000)
    console.close()
    shown = stream.getvalue()
    assert "model.safetensors" in shown and "1000/1000 MB" in shown and "%" not in shown
