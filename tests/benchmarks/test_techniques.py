"""docs/techniques.md follows its figures, and never shows one that was not measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import techniques
from benchmarks.memory import TIERS

MEMO = json.loads(techniques.MEMO.read_text(encoding="utf-8"))


def run(vram: float | str, scenario: str | None = None, **figures: object) -> dict:
    return {
        "model": "2", "vram_gb": vram, "scenario": scenario, "completed": True, "peak_reserved_mb": 1024.0,
        "peak_device_mb": 1536.0, "gpu_seconds": 19.4, "held": True, "equal_to_resident": True, "stages": [],
    } | figures  # fmt: skip


def line(page: str, start: str) -> list[str]:
    [row] = [row for row in page.splitlines() if row.startswith(f"| {start} |")]
    return [cell.strip() for cell in row.replace("\\|", "/").strip("|").split("|")]


def test_the_committed_page_is_up_to_date() -> None:
    assert techniques.main(["--check"]) == 0


def test_without_measurements_every_measured_cell_says_so() -> None:
    page = techniques.page(MEMO, [], {})
    for vram in techniques.TIERS:
        assert line(page, f"--vram {vram}")[3:] == ["not run"] * 5
    for scenario in MEMO["scenarios"]:
        assert line(page, scenario["name"])[4:] == ["not run"] * 3
    assert "No run of this package has been measured" in page


def test_measured_figures_appear_where_they_belong() -> None:
    page = techniques.page(MEMO, [run(2.0), run("max", "b"), run(3.0, completed=False)], {"device": "a GPU"})
    assert line(page, "--vram 2")[3:] == ["1.00", "1.50", "19.4", "yes", "yes"]
    assert line(page, "--vram 3")[3] == "failed"
    assert line(page, "b")[4:] == ["1.00", "1.50", "19.4"]
    assert line(page, "5a")[-1] == "scenario b"
    assert line(page, "9")[-1] == "not run"
    assert "taken on a GPU" in page


def test_runs_of_tiny_networks_are_no_figures() -> None:
    page = techniques.page(MEMO, [run(2.0, model="2 (tiny)")], {"device": "CPU"})
    assert line(page, "--vram 2")[3] == "not run"


def test_all_nine_techniques_and_all_tiers_are_there() -> None:
    page = techniques.page(MEMO, [], {})
    for row in MEMO["techniques"]:
        assert len(line(page, row["number"])) == 7
    assert {row["number"][0] for row in MEMO["techniques"]} == set("123456789")
    assert [str(tier) for tier in techniques.TIERS] == list(TIERS)


@pytest.mark.parametrize("vram", techniques.TIERS)
def test_predictions_keep_their_ceiling(vram: float | str) -> None:
    plan = techniques.predicted(vram)
    assert plan is not None
    assert vram == "max" or plan.predicted_peak_bytes <= float(vram) * (1 << 30)
