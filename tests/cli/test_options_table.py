"""docs/command-line.md shows the options as they are."""

from __future__ import annotations

import pytest

from hy3dgen.cli.exit_codes import EXIT_CODES
from tools import options_table


def test_the_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert options_table.main(["--check"]) == 0, "run: python -m tools.options_table"


def test_a_missing_option_would_be_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    text = options_table.PAGE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "`--vram " not in line]
    assert len(lines) < len(text.splitlines())
    assert options_table.page("\n".join(lines) + "\n") == text
    with pytest.raises(ValueError, match="lacks the marks"):
        options_table.page("no marks")


def test_every_exit_code_is_explained() -> None:
    text = options_table.PAGE.read_text(encoding="utf-8")
    assert all(f"| {code} |" in text for code in {0, 1, *EXIT_CODES.values()})
