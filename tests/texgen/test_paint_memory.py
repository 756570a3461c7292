"""The memory benchmark of the texture networks runs, at a size for any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.slow
def test_paint_memory_benchmark(tmp_path: Path) -> None:
    from benchmarks.paint_memory import main

    output = tmp_path / "paint_memory.json"
    assert main(["--size", "tiny", "--device", "cpu", "--steps", "1", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    stages = {row["stage"] for row in result["rows"]}
    assert {"paint step", "reference", "VAE encode", "VAE decode", "delight", "paint", "paint-turbo"} <= stages
    assert all(row["seconds"] > 0 for row in result["rows"])
