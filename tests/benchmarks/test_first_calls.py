"""The script runs, and the threshold in the package is what the committed figures say."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

from benchmarks.first_calls import RESULT, main
from hy3dgen.runtime.attention.sdpa import PLANNING_PAYS

STEPS, LAYERS = 30, 5  # of the paint UNet at its widest


def test_every_shape_has_first_and_steady_times(tmp_path: Path) -> None:
    output = tmp_path / "first.json"
    assert main(["--device", "cpu", "--shapes", "paint, text", "--output", str(output)]) == 0
    [row] = json.loads(output.read_text(encoding="utf-8"))["rows"]
    assert row["usual"]["first_ms"] > 0 and row["another_thread_ms"] > 0


def test_planning_pays_from_the_threshold_on() -> None:
    paid = 0
    for row in json.loads(RESULT.read_text(encoding="utf-8"))["rows"]:
        if not row["attention"].startswith("paint"):
            continue
        batch, heads, queries, keys, channels = row["shape"]
        saved = STEPS * LAYERS * (row["flash"]["steady_ms"] - row["usual"]["steady_ms"])
        pays = saved > row["usual"]["first_ms"] - row["usual"]["steady_ms"]
        assert pays == (prod((batch, heads, queries, keys, channels)) >= PLANNING_PAYS), row["attention"]
        paid += pays
    assert paid == 1
