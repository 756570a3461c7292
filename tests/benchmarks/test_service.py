"""The committed load figures have the shape that the script writes and show what the service promises."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.service import growth, measure

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "service.json"


def test_no_request_failed_and_memory_is_flat() -> None:
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    assert {row["clients"] for row in found["requests"]} == {1, 10, 100}
    assert all(row["failed"] == 0 for row in found["requests"])
    memory = found["memory"]
    assert memory["jobs"] >= 50
    assert memory["worker_growth_mb_a_job"] < 0.2
    assert memory["server_growth_mb_a_job"] < 0.2


def test_measuring_counts_failures_and_orders_its_quantiles() -> None:
    row = measure("nothing", 3, 50, lambda session, number: 503 if number % 10 == 0 else 200)
    assert (row["failed"], row["requests"], row["clients"]) == (5, 50, 3)
    assert row["median_ms"] <= row["p95_ms"] <= row["p99_ms"]


def test_growth_is_that_of_all_points() -> None:
    leaking = [{"jobs": n, "mb": 700 + 0.5 * n + (12 if n % 3 else -24)} for n in range(61)]
    swinging = [{"jobs": n, "mb": 700 + (12 if n % 3 else -24)} for n in range(61)]
    assert abs(growth(leaking, "mb") - 0.5) < 0.05 and abs(growth(swinging, "mb")) < 0.05
