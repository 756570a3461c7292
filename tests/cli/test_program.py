"""The frame of the programs leaves the process as it found it."""

from __future__ import annotations

import logging

import pytest
from PIL import Image

from hy3dgen.cli import color, multiview
from hy3dgen.errors import Cancelled
from hy3dgen.jobs import batch

WAYS_ON = (
    (color, "--input", "--resume goes on from here"),
    (multiview, "--front", "nothing half-written stays"),
)


def test_logging_is_as_before_afterwards(tmp_path):
    """Our logger stayed at WARNING after the first call of main, which silenced everybody else's messages."""
    ours = logging.getLogger("hy3dgen")
    before = ours.level, list(ours.handlers), list(logging.getLogger().handlers)
    assert color.main(["--input", str(tmp_path / "missing.png")]) == 3
    assert (ours.level, list(ours.handlers), list(logging.getLogger().handlers)) == before


def test_quiet_silences_warnings_in_the_log_as_well(monkeypatch, capsys):
    def warns(*args):
        logging.getLogger("hy3dgen.images").warning("a long download begins")
        return 0

    monkeypatch.setattr(color, "_work", warns)
    assert color.main(["--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert color.main([]) == 0
    assert "a long download begins" in capsys.readouterr().err


def test_input_given_twice_is_a_batch_of_both():
    """Only the last of several --input was made, and nothing was said of the others."""
    argv = ["--input", "a.png", "--input", "b.png", "c.png"]
    order = color.order_from(color.make_parser().parse_all(argv), argv)
    assert [task.name for task in order.tasks] == ["a", "b", "c"] and order.is_batch


@pytest.mark.parametrize(("program", "name", "words"), WAYS_ON)
def test_a_stopped_count_tells_how_to_go_on(program, name, words, tmp_path, monkeypatch, capsys):
    """With --count the program knows --resume, and a stop did not tell of it."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), (200, 40, 40)).save("mug.png")

    def stopped(tasks, *args, **options):
        return [batch.Outcome(task, "cancelled", error=Cancelled("cancelled")) for task in tasks]

    monkeypatch.setattr(batch, "run_batch", stopped)
    assert program.main([name, "mug.png", "--count", "2", "--device", "cpu"]) == 130
    assert f"error: cancelled; finished results are kept, {words}" in capsys.readouterr().err
