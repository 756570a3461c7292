"""Device memory and time of whole runs of color.py under every ceiling, one process each.

    python -m benchmarks.memory [--tiers 1.5 2 3 4 6 8 max] [--scenarios a b c] [--minutes 9]

Full-size synthetic checkpoints are written first (``benchmarks.synthetic``). Runs that results/memory.json has are
skipped, and each finished run is added to it at once, so that the work can be done in pieces; no run is started that
would probably not end within --minutes. The run at 'max', which keeps everything resident, is the yardstick for
equality and is repeated in a new work folder. results/memory_details.json has what the fixed keys have no room for:
host memory, differences from the yardstick, errors, commands.

What is measured: torch's peaks from the run's own report; the device's use as the driver counts it, sampled every
50 ms by nvidia-smi, less what was in use before; anonymous and shared host memory of the process, sampled alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.sampled import SAMPLE_S, host_memory_mb, sampled_device
from benchmarks.synthetic import SCALES, write_all
from hy3dgen.runtime.device import CPU, CUDA

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TIERS = ("1.5", "2", "3", "4", "6", "8", "max")
SCENARIOS = ("a", "b", "c")
YARDSTICK = "max"
GPU_STAGES = ("condition", "denoise", "decode", "delight", "maps", "views", "bake")
LAST_LINES = 40  # of a failed run's messages: enough for its traceback
# Float tolerance between runs that sum in another order: in the latents' own spread, and in 8-bit steps.
LATENTS_TOLERANCE, TEXTURE_TOLERANCE = 0.02, 2.0
FULL = ("--steps", "50", "--paint-steps", "30", "--delight-steps", "50", "--octree-resolution", "384",
        "--texture-size", "2048", "--faces", "40000")  # fmt: skip
TINY = ("--steps", "1", "--paint-steps", "1", "--delight-steps", "1", "--octree-resolution", "24",
        "--texture-size", "64", "--faces", "500")  # fmt: skip

Run = dict[str, Any]
Launch = Callable[[Sequence[str], dict[str, str]], "Outcome"]


@dataclass(frozen=True)
class Case:
    """One run: a ceiling as ``--vram`` takes it, or a scenario on the whole device."""

    vram: str
    scenario: str | None = None

    @property
    def name(self) -> str:
        return f"scenario-{self.scenario}" if self.scenario else f"vram-{self.vram}"

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--scenario", self.scenario) if self.scenario else ("--vram", self.vram)

    @property
    def vram_gb(self) -> float | str:
        """The ceiling as it stands in the results: a number, or 'max'."""
        return self.vram if self.vram == "max" else float(self.vram)

    def is_in(self, runs: Sequence[Run]) -> bool:
        """Whether a result has this run already."""
        return any(run["vram_gb"] == self.vram_gb and run["scenario"] == self.scenario for run in runs)


@dataclass
class Outcome:
    """What a finished process leaves: exit code, the end of its messages, seconds, and sampled peaks in MiB."""

    code: int
    words: str = ""
    seconds: float = 0.0
    peak_device_mb: float = 0.0
    peak_host_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Where and at what size everything runs."""

    work: Path
    scale: str = "full"
    device: str = CUDA
    model: str = "2"
    texture: str = "paint"

    @property
    def models(self) -> Path:
        return self.work / "models"

    def folder(self, case: Case) -> Path:
        return self.work / case.name

    def command(self, case: Case, picture: Path) -> list[str]:
        """The command of one run."""
        folder = self.folder(case)
        sizes = FULL if self.scale == "full" else TINY
        return [
            sys.executable, "color.py", "--input", str(picture), "--model", self.model, "--texture", self.texture,
            "--device", self.device, *sizes, "--seed", "1", "--output", str(folder / "mesh.glb"), "--report",
            str(folder / "report.json"), "--keep", str(folder / "kept"), "--overwrite", "--no-preview", "--offline",
            "-v", *case.arguments,
        ]  # fmt: skip


def cases(tiers: Sequence[str], scenarios: Sequence[str]) -> list[Case]:
    """The runs in the order in which they are made: the yardstick first."""
    wanted = [Case(tier) for tier in tiers] + [Case("max", scenario) for scenario in scenarios]
    return sorted(wanted, key=lambda case: (case != Case(YARDSTICK), case.scenario is not None))


def run_all(
    wanted: Sequence[Case],
    setting: Setting,
    results: Path,
    *,
    minutes: float | None = None,
    launch: Launch | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> list[Run]:
    """Make every run that ``results`` (a folder) lacks and return all of them.

    minutes: start no run that would probably not end in this time, going by the slowest so far
    launch: starts a command with an environment and waits; replaced in tests
    """
    started, slowest = time.monotonic(), 0.0
    start = launch or launched
    found = _read(results / "memory.json", {"machine": {}, "runs": []})
    details = _read(results / "memory_details.json", {"runs": []})
    found["machine"] = machine(setting.device)
    picture = draw_picture(setting.work)
    missing = [case for case in wanted if not case.is_in(found["runs"])]
    yardstick = Case(YARDSTICK)
    if missing and yardstick not in missing and not kept(setting.folder(yardstick)):
        missing.insert(0, yardstick)
    for case in missing:
        elapsed = time.monotonic() - started
        if minutes is not None and elapsed + 1.2 * slowest > 60 * minutes:
            say(f"stopping before {case.name}: {elapsed:.0f} s are gone and a run takes up to {slowest:.0f} s")
            break
        folder = setting.folder(case)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = setting.command(case, picture)
        outcome = start(command, environment(setting))
        slowest = max(slowest, outcome.seconds)
        run, detail = evaluate(case, setting, outcome, command)
        say(f"{case.name}: {json.dumps({k: v for k, v in run.items() if k != 'stages'})}")
        found["runs"] = _replaced(found["runs"], run)
        details["runs"] = _replaced(details["runs"], detail)
        _write(results / "memory.json", found)
        _write(results / "memory_details.json", details)
    return found["runs"]


def evaluate(case: Case, setting: Setting, outcome: Outcome, command: Sequence[str]) -> tuple[Run, Run]:
    """(the run with the fixed keys, its details)."""
    folder = setting.folder(case)
    report = _read(folder / "report.json", {})
    completed = outcome.code == 0 and bool(report)
    stages = [
        {key: stage[key] for key in ("name", "seconds", "peak_allocated_mb", "peak_reserved_mb")}
        for stage in report.get("stages", [])
    ]
    differences = compare(folder, setting.folder(Case(YARDSTICK))) if completed else {}
    ceiling_mb = float("inf") if case.vram == "max" else 1024 * float(case.vram)
    run: Run = {
        "model": setting.model if setting.scale == "full" else f"{setting.model} ({setting.scale})",
        "vram_gb": case.vram_gb,
        "scenario": case.scenario,
        "completed": completed,
        "peak_reserved_mb": max((stage["peak_reserved_mb"] for stage in stages), default=None),
        "peak_device_mb": round(outcome.peak_device_mb, 1) if outcome.peak_device_mb else None,
        "gpu_seconds": round(sum(s["seconds"] for s in stages if s["name"] in GPU_STAGES), 3) if completed else None,
        "held": held(completed, outcome.peak_device_mb, ceiling_mb, setting.device),
        "equal_to_resident": is_equal(differences) if differences else None,
        "stages": stages,
    }
    detail = {
        "vram_gb": case.vram_gb,
        "scenario": case.scenario,
        "command": list(command[1:]),
        "exit_code": outcome.code,
        "message": outcome.words if outcome.code else "",
        "seconds": round(outcome.seconds, 1),
        "peak_host_mb": {name: round(value, 1) for name, value in outcome.peak_host_mb.items()},
        "differences": differences,
        "plan": report.get("plan"),
        "levers": {stage["name"]: stage["levers"] for stage in report.get("stages", []) if stage.get("levers")},
        "visits": {
            stage["name"]: stage["figures"]["visits"]
            for stage in report.get("stages", [])
            if stage.get("figures", {}).get("visits")
        },
        "warnings": report.get("warnings", []),
    }
    return run, detail


def held(completed: bool, peak_device_mb: float, ceiling_mb: float, device: str) -> bool | None:
    """Whether the ceiling held; None where nothing counted, as on the CPU."""
    if device == CPU or not peak_device_mb:
        return None
    return completed and peak_device_mb <= ceiling_mb


def kept(folder: Path) -> bool:
    """Whether a run left the latents and the texture to compare with."""
    return (folder / "kept" / "latents.safetensors").is_file() and (folder / "kept" / "textured.png").is_file()


def compare(folder: Path, yardstick: Path) -> dict[str, float]:
    """How far latents and texture of a run are from the yardstick's; empty when there is nothing to compare.

    latents_max: largest difference, in standard deviations of the yardstick's latents; texture_mean: mean difference
    in steps of 1/255, which only means something while the meshes are the same
    """
    if folder == yardstick:
        return {"latents_max": 0.0, "texture_mean": 0.0} if kept(folder) else {}
    if not kept(folder) or not kept(yardstick):
        return {}
    from safetensors.numpy import load_file

    ours, theirs = (
        load_file(path / "kept" / "latents.safetensors")["latents"].astype(np.float64) for path in (folder, yardstick)
    )
    pictures = [
        np.asarray(Image.open(path / "kept" / "textured.png").convert("RGB"), np.float64)
        for path in (folder, yardstick)
    ]
    same_size = ours.shape == theirs.shape and pictures[0].shape == pictures[1].shape
    if not same_size:
        return {"latents_max": float("inf"), "texture_mean": float("inf")}
    return {
        "latents_max": float(np.abs(ours - theirs).max() / max(theirs.std(), 1e-9)),
        "texture_mean": float(np.abs(pictures[0] - pictures[1]).mean()),
    }


def is_equal(differences: dict[str, float]) -> bool:
    """Whether differences are within float tolerance."""
    return differences["latents_max"] <= LATENTS_TOLERANCE and differences["texture_mean"] <= TEXTURE_TOLERANCE


def launched(command: Sequence[str], environ: dict[str, str]) -> Outcome:
    """Run a command in the repository while memory is sampled."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as words, sampled_device() as device:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=words)
        host: dict[str, float] = {}
        while process.poll() is None:
            for name, value in host_memory_mb(process.pid).items():
                host[name] = max(host.get(name, 0.0), value)
            time.sleep(SAMPLE_S)
        words.seek(0)
        said = words.read().strip().splitlines()
    words = "\n".join(said[-LAST_LINES:])
    return Outcome(process.returncode, words, time.monotonic() - started, device.peak_mb, host)


def environment(setting: Setting) -> dict[str, str]:
    """The environment of a run: the synthetic models, no network, and none of the user's allocator settings."""
    own = {"HY3DGEN_MODELS": str(setting.models), "HF_HUB_OFFLINE": "1", "ATTN_BACKEND": "auto"}
    dropped = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
    return {name: value for name, value in os.environ.items() if name not in dropped} | own


def machine(device: str) -> dict[str, Any]:
    """What the results say about where they were taken."""
    import torch

    from hy3dgen.runtime.device import describe, pick_device

    return {
        "device": describe(pick_device(device)),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def draw_picture(work: Path, size_px: int = 512) -> Path:
    """A shaded ball, cut out already, so that background removal is no part of the figures."""
    work.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    radius = np.hypot(x, y) / 0.8
    height = np.sqrt(np.clip(1 - radius**2, 0, None))
    light = np.clip(0.35 + 0.65 * (0.4 * -x + 0.5 * -y + 0.77 * height), 0, 1)
    rgb = light[..., None] * np.array([235, 140, 60])
    path = work / "ball.png"
    Image.fromarray(np.dstack([rgb, 255 * (radius < 1)]).astype(np.uint8), "RGBA").save(path)
    return path


def _replaced(runs: list[Run], new: Run) -> list[Run]:
    """The list with this run in the place of an older one of the same case, or at the end."""
    same = [i for i, run in enumerate(runs) if (run["vram_gb"], run["scenario"]) == (new["vram_gb"], new["scenario"])]
    return [*runs[: same[0]], new, *runs[same[0] + 1 :]] if same else [*runs, new]


def _read(path: Path, otherwise: dict[str, Any]) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The command above; 0 when every run was completed and held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--tiers", nargs="*", default=list(TIERS), metavar="GB", help="ceilings, in GiB, and 'max'")
    parser.add_argument("--scenarios", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "hy3dgen-memory")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of memory.json")
    parser.add_argument("--minutes", type=float, help="end within about this time")
    parser.add_argument("--scale", choices=SCALES, default="full", help="tiny: to see whether it runs")
    parser.add_argument("--device", default=CUDA)
    values = parser.parse_args(argv)
    started = time.monotonic()
    setting = Setting(values.work, values.scale, values.device)

    def say(words: str) -> None:
        print(words, flush=True)

    for folder, seconds in write_all(setting.models, values.scale):
        say(f"{folder.name}: {seconds:.1f} s")
    left = None if values.minutes is None else values.minutes - (time.monotonic() - started) / 60
    wanted = cases(values.tiers, values.scenarios)
    runs = run_all(wanted, setting, values.results, minutes=left, say=say)
    done = [run for run in runs if any(case.is_in([run]) for case in wanted)]
    return 0 if len(done) == len(wanted) and all(run["completed"] and run["held"] is not False for run in done) else 1


if __name__ == "__main__":
    raise SystemExit(main())
