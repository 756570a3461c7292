"""``python -m training rates`` runs at micro size, every part of it, and its rates are those of what was made."""

from __future__ import annotations

import json

import pytest

from tests.training.conftest import micro_networks
from training import rates
from training.__main__ import main
from training.export import export


@pytest.mark.parametrize(("views", "batch"), [(1, 2), (4, 6)])
def test_every_part_is_measured(tmp_path, monkeypatch, views, batch):
    monkeypatch.setattr(rates, "FEW_SHAPES", 6)
    export(micro_networks(), tmp_path / "model")
    arguments = ["--load", str(tmp_path / "model"), "--seconds", "0.1", "--batch", str(batch), "--workers", "0"]
    arguments += ["--views", str(views)]
    assert main(["rates", "--out", str(tmp_path), "--device", "cpu", *arguments]) == 0
    lines = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    parts = {item["part"]: item for item in lines if item["kind"] == "rate"}
    assert not [item for item in parts.values() if "failed" in item]
    assert parts["kernels against plain torch"]["right"]
    made = {name: item["per_s"] * item["ms_a_call"] / 1000 for name, item in parts.items() if "per_s" in item}
    expected = dict.fromkeys(
        ("centre and scale", "2048 surface points", "2048 field values", "pictures of 168 px", "varied pictures"), 6
    ) | {"draw, 0 workers": 256, f"vae step of {batch}": batch}
    if views == 1:
        expected["flow step of 2"] = 2
    else:
        expected |= {"varied pictures of 4 sides": 24, "flow step of 6, 4 views": 6}
    assert made == pytest.approx(expected, rel=1e-3)  # the log keeps five digits
