"""The commands of ``python -m training.paint``, run at micro size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from training.checkpoints import STATE, read_shards
from training.paint import score
from training.paint.__main__ import main
from training.paint.export import FOLDER

WIDTHS = ["--vae-widths", "8", "8", "16", "--unet-widths", "16", "16"]
SIZES = ["--batch", "2", "--vae-batch", "2", "--pool", "4", "--least", "4", "--log-every", "1", "--device", "cpu"]
SMALL = ["--view-px", "32", "--per-category", "1", "--ahead", "2", "--block", "4"]
FEW = ["--device", "cpu", "--per-category", "1"]


def records(folder: Path, kind: str) -> list[dict]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


@pytest.fixture(scope="module")
def few_shapes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "CATEGORIES", {"mug": None, "car": None})
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, few_shapes) -> Path:
    """What ``both`` leaves, at 32 px."""
    out = tmp_path_factory.mktemp("paint") / "run"
    steps = ["--vae-steps", "1", "--unet-steps", "1", "--view-px", "32", "--per-category", "1"]
    assert main(["both", "--out", str(out), *steps, *SIZES, *WIDTHS]) == 0
    return out


def test_both_trains_scores_exports_and_draws(run):
    assert [item["finished"] for item in records(run, "end")] == [True, True]
    assert records(run, "evaluation")[-1]["count"] == 2
    assert [item["part"] for item in records(run, "evaluation") if "part" in item] == ["vae", "paint"]
    assert (run / FOLDER / "unet").is_dir() and (run / "sheet.png").is_file()


def test_loaded_networks_bring_their_view_size(run, tmp_path):
    """No command that loads needs --view-px again: held-out shapes and training scenes have the networks' size."""
    assert main(["evaluate", "--load", str(run), "--out", str(tmp_path), *FEW]) == 0
    again, published = records(tmp_path, "evaluation")[0], records(run, "evaluation")[-1]
    assert {name: value for name, value in again.items() if name.endswith("_db")} == pytest.approx(
        {name: value for name, value in published.items() if name.endswith("_db")}, abs=0.2
    )
    assert main(["sheet", "--load", str(run), "--out", str(tmp_path), *FEW]) == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (7 * 32, 4 * 2 * 32)


def test_a_run_from_shards_goes_on_counting(run, tmp_path):
    """Without the state, as on another machine: steps, samples and scenes go on behind those of the first run."""
    moved = tmp_path / "moved"
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns(STATE))
    before = read_shards(moved)[1]
    out = tmp_path / "next"
    training = ["--steps", "1", "--evaluations", "0", *SIZES]
    assert main(["unet", "--load", str(moved), "--out", str(out), *training]) == 0
    after = read_shards(out)[1]
    assert (after["step"], after["samples"]) == (before["step"] + 1, before["samples"] + 2)
    assert after["stream"]["block"] == before["stream"]["block"] + 4 == 8


def test_rates_begin_behind_the_loaded_scenes(run, tmp_path):
    assert main(["rates", "--load", str(run), "--out", str(tmp_path), "--steps", "1", *SIZES, *FEW]) == 0
    assert read_shards(tmp_path)[1]["stream"]["block"] == 8
    assert {item["what"] for item in records(tmp_path, "rates")} >= {"vae", "unet", "first scenes"}
    made = tmp_path / "made"
    assert main(["rates", "--out", str(made), "--steps", "1", "--scenes", "device", *SIZES, *WIDTHS, *SMALL]) == 0
    assert {item["what"] for item in records(made, "rates")} >= {"kernels compiled", "scenes made"}


def test_a_piece_ends_within_its_minutes(tmp_path, few_shapes):
    """Everything counts from the command's start; what is left for the last evaluation is not trained in."""
    sizes = [*SIZES, *WIDTHS, "--view-px", "32", "--per-category", "1", "--scenes", "device", "--no-state"]
    clock = ["--vae-steps", "1", "--within", "0.05", "--reserve", "2.9"]
    assert main(["both", "--out", str(tmp_path), *clock, *sizes]) == 0
    phases = [item["finished"] for item in records(tmp_path, "end")]
    assert phases == [True, True] and (tmp_path / FOLDER).is_dir()
    assert not (tmp_path / STATE).exists()
    assert main(["unet", "--out", str(tmp_path), "--within", "1", "--minutes", "1", *sizes]) == 2
