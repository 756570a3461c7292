"""The memory benchmark: order, resuming, fixed keys, equality, ceilings; once for real at tiny size."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from benchmarks import memory
from benchmarks.memory import Case, Outcome, Setting, cases, run_all
from benchmarks.sampled import DeviceUse, first_card

RUN_KEYS = {
    "model", "vram_gb", "scenario", "completed", "peak_reserved_mb", "peak_device_mb", "gpu_seconds", "held",
    "equal_to_resident", "stages",
}  # fmt: skip
STAGE_KEYS = {"name", "seconds", "peak_allocated_mb", "peak_reserved_mb"}


class FakeRuns:
    """Stands for the processes: writes what color.py would leave behind."""

    def __init__(self, *, fail: Sequence[str] = (), drift: dict[str, float] | None = None, device_mb: float = 1500):
        self.started: list[str] = []
        self.fail, self.drift, self.device_mb = fail, drift or {}, device_mb

    def __call__(self, command: Sequence[str], environ: dict[str, str]) -> Outcome:
        assert environ["HF_HUB_OFFLINE"] == "1"
        assert "PYTORCH_CUDA_ALLOC_CONF" not in environ
        folder = Path(command[command.index("--report") + 1]).parent
        self.started.append(folder.name)
        if folder.name in self.fail:
            return Outcome(5, "error: no plan fits", 3.0)
        latents = np.random.default_rng(0).standard_normal((1, 8, 4)).astype(np.float32)
        (folder / "kept").mkdir(parents=True)
        latents += self.drift.get(folder.name, 0.0)
        save_file({"latents": latents}, folder / "kept" / "latents.safetensors")
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(folder / "kept" / "textured.png")
        stages = [
            {"name": name, "seconds": 2.0, "peak_allocated_mb": 700.0, "peak_reserved_mb": 800.0, "levers": ["x"]}
            for name in ("load", "condition", "denoise", "unwrap", "views")
        ]
        stages[-1]["figures"] = {"visits": [{"network": "paint_unet", "arrive_s": 0.2}]}
        (folder / "report.json").write_text(json.dumps({"stages": stages, "plan": {"held": True}}))
        return Outcome(0, "", 10.0, self.device_mb, {"anonymous": 900.0})


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path / "work", device="cpu")


def read(results: Path) -> list[dict]:
    return json.loads((results / "memory.json").read_text())["runs"]


def test_the_yardstick_runs_first_and_every_tier_and_scenario_once(setting: Setting, tmp_path: Path) -> None:
    fake = FakeRuns()
    wanted = cases(memory.TIERS, memory.SCENARIOS)
    runs = run_all(wanted, setting, tmp_path, launch=fake)
    assert fake.started[0] == "vram-max"
    assert sorted(fake.started) == sorted(case.name for case in wanted)
    assert [(run["vram_gb"], run["scenario"]) for run in runs[:2]] == [("max", None), (1.5, None)]
    assert all(set(run) == RUN_KEYS and set(run["stages"][0]) == STAGE_KEYS for run in read(tmp_path))
    assert read(tmp_path) == runs
    assert runs[0]["gpu_seconds"] == 6.0  # condition, denoise, views; neither loading nor the CPU's unwrapping


def test_the_details_say_what_the_visits_of_networks_took(setting: Setting, tmp_path: Path) -> None:
    run_all(cases(["max"], []), setting, tmp_path, launch=FakeRuns())
    [detail] = json.loads((tmp_path / "memory_details.json").read_text())["runs"]
    assert detail["visits"] == {"views": [{"network": "paint_unet", "arrive_s": 0.2}]}


def test_finished_runs_are_not_repeated(setting: Setting, tmp_path: Path) -> None:
    run_all(cases(["max", "2"], []), setting, tmp_path, launch=FakeRuns())
    fake = FakeRuns()
    run_all(cases(["max", "2", "4"], ["a"]), setting, tmp_path, launch=fake)
    assert fake.started == ["vram-4", "scenario-a"]


def test_a_new_machine_makes_the_yardstick_again(setting: Setting, tmp_path: Path) -> None:
    run_all(cases(["max"], []), setting, tmp_path, launch=FakeRuns())
    fake, elsewhere = FakeRuns(), Setting(tmp_path / "other", device="cpu")
    runs = run_all(cases(["max", "3"], []), elsewhere, tmp_path, launch=fake)
    assert fake.started == ["vram-max", "vram-3"]
    assert len(runs) == 2


def test_no_run_is_started_that_would_not_end_in_time(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, clock = FakeRuns(), itertools.count(0, 10)
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    run_all(cases(memory.TIERS, []), setting, tmp_path, launch=fake, minutes=0.5)
    assert 1 <= len(fake.started) < len(memory.TIERS)


def test_equality_and_ceilings_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(tmp_path / "work", device="cuda")
    fake = FakeRuns(drift={"vram-3": 0.5, "vram-4": 0.001}, fail=["vram-2"])
    monkeypatch.setattr(memory, "machine", lambda device: {})
    wanted = cases(["max", "1", "2", "3", "4"], [])
    runs = {run["vram_gb"]: run for run in run_all(wanted, setting, tmp_path, launch=fake)}
    assert [runs[gib]["equal_to_resident"] for gib in ("max", 3.0, 4.0)] == [True, False, True]
    assert [runs[gib]["held"] for gib in ("max", 1.0, 3.0)] == [True, False, True]
    assert (runs[2.0]["completed"], runs[2.0]["held"], runs[2.0]["gpu_seconds"]) == (False, None, None)
    details = json.loads((tmp_path / "memory_details.json").read_text())["runs"]
    assert next(row for row in details if row["vram_gb"] == 2.0)["message"] == "error: no plan fits"
    assert next(row for row in details if row["vram_gb"] == 4.0)["peak_host_mb"] == {"anonymous": 900.0}


def test_the_command_of_a_full_run_says_every_size(setting: Setting) -> None:
    words = setting.command(Case("2"), Path("ball.png"))
    for option, value in (
        ("--vram", "2"), ("--steps", "50"), ("--paint-steps", "30"), ("--delight-steps", "50"),
        ("--octree-resolution", "384"), ("--texture-size", "2048"), ("--texture", "paint"), ("--model", "2"),
    ):  # fmt: skip
        assert words[words.index(option) + 1] == value
    forced = setting.command(Case("max", "b"), Path("ball.png"))
    assert "--vram" not in forced
    assert forced[forced.index("--scenario") + 1] == "b"


def test_device_use_is_counted_from_what_was_there_before() -> None:
    use = DeviceUse()
    for sample in (500.0, 700.0, 1900.0, 600.0):
        use.add(sample)
    assert use.peak_mb == 1400.0


def test_host_memory_of_this_process_is_read() -> None:
    import os

    found = memory.host_memory_mb(os.getpid())
    assert not Path("/proc/self/status").exists() or found["anonymous"] > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_run_at_tiny_size(tmp_path: Path) -> None:
    results = tmp_path / "results"
    arguments = ["--scale", "tiny", "--device", "cpu", "--work", str(tmp_path / "work"), "--results", str(results)]
    assert memory.main([*arguments, "--tiers", "max", "--scenarios"]) == 0
    [run] = read(results)
    assert (run["vram_gb"], run["completed"], run["equal_to_resident"], run["held"]) == ("max", True, True, None)
    names = [stage["name"] for stage in run["stages"]]
    assert {"condition", "denoise", "decode", "delight", "maps", "views", "bake", "fill"} <= set(names)


@pytest.mark.parametrize(
    ("visible", "card"), [({}, "0"), ({"CUDA_VISIBLE_DEVICES": ""}, "0"), ({"CUDA_VISIBLE_DEVICES": "1, 0"}, "1")]
)
def test_the_sampled_card_is_the_one_the_runs_see(visible, card):
    assert first_card(visible) == card
