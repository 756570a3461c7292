"""The committed counts of guided steps are those of the code."""

from __future__ import annotations

import json

import pytest

from benchmarks import guidance
from hy3dgen.runtime.device import CPU, pick_device

COMMITTED = json.loads(guidance.RESULT.read_text(encoding="utf-8"))["predicted"]


@pytest.mark.parametrize("name", ["nano", "2mini"])
def test_the_committed_counts_are_up_to_date(name: str) -> None:
    assert guidance.predictions([name]) == [row for row in COMMITTED if row["model"] == name]


def test_the_page_has_the_committed_counts() -> None:
    assert guidance.table(COMMITTED) in (guidance.RESULT.parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")


def test_one_token_needs_less_work_and_no_more_memory() -> None:
    assert {row["model"] for row in COMMITTED} == set(guidance.CASES)
    for every, one in zip(COMMITTED[::2], COMMITTED[1::2], strict=True):
        assert (every["way"], one["way"]) == guidance.WAYS and every["cfg_split"] == one["cfg_split"]
        assert one["share"] < every["share"] == 1 and one["tensors_mb"] <= every["tensors_mb"]


def test_a_timing_says_where_it_was_taken() -> None:
    row = guidance.timed("nano", pick_device(CPU))
    assert row["machine"]["torch"] and set(row["rows"]) == set(guidance.WAYS)
    assert all(0 < times["least_s"] <= times["median_s"] for times in row["rows"].values())
