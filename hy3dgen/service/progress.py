"""How far a running job is: its stages as clients see them, and a guess of what is left.

Works on plain values that come from the worker process; knows no job and no queue.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hy3dgen.runtime.stages import STAGE_NAMES

MEMORY_FIGURES = ("device", "ceiling_mb", "used_mb", "peak_mb", "host_mb")
# Shares of the time where nothing has been measured: a picture with the embedded model on a CPU.
_USUAL_S = {
    "load": 2, "cutout": 2, "condition": 2, "denoise": 24, "decode": 40, "extract": 1, "clean": 3, "reduce": 5,
    "unwrap": 1, "delight": 20, "maps": 2, "views": 40, "bake": 2, "fill": 3, "export": 2,
}  # fmt: skip


def expected_stages(*, has_shape: bool, from_words: bool, texture: str, delight: bool) -> list[str]:
    """The stages that a job will pass, in order. Some may be skipped, such as 'reduce' for a small mesh."""
    names = ["load", "denoise"] if from_words else []
    names += ["cutout"]
    if has_shape:
        names += ["load", "condition", "denoise", "decode", "extract", "clean"]
    names += ["reduce"]
    if texture != "none":
        names += ["unwrap"]
    if texture in ("paint", "paint-turbo", "paint-nano"):
        names += [
            "load",
            *(["delight"] if delight and texture != "paint-nano" else []),
            "maps",
            "views",
            "bake",
            "fill",
        ]
    elif texture != "none":
        names += ["maps", "bake", "fill"]
    return list(dict.fromkeys([*names, "export"]))


class Progress:
    """The stages of one run. ``usual_s``: seconds of each stage in an earlier run of the same kind, when known."""

    def __init__(self, expected: Sequence[str], *, usual_s: Mapping[str, float] | None = None) -> None:
        self._usual_s = dict(usual_s or {})
        self._measured = bool(usual_s)
        self._stages: dict[str, dict[str, Any]] = {name: _stage(name) for name in expected}
        self._runs: dict[str, dict[int, dict[str, Any]]] = {}
        self._memory: dict[str, Any] = {}
        self._started = time.monotonic()

    def update(self, message: Mapping[str, Any]) -> None:
        """Take in what the worker says of a stage.

        message: 'run' (number of the stage record), 'name', 'finished', 'seconds', 'steps', 'total', 'unit',
        'peak_device_mb', 'levers', 'warnings', 'memory'. A stage that is opened more than once is shown as one.
        """
        name = message["name"]
        if name not in STAGE_NAMES:
            return
        runs = self._runs.setdefault(name, {})
        runs[message["run"]] = dict(message)
        self._memory = dict(message.get("memory") or self._memory)
        stage = self._stages.get(name)
        if stage is None:
            stage = self._insert(name)
        self._fill(stage, list(runs.values()))

    def finish(self) -> None:
        """What has not come by now does not come."""
        for stage in self._stages.values():
            stage["status"] = "done" if stage["status"] in ("done", "running") else "skipped"

    def snapshot(self) -> dict[str, Any]:
        """The progress as clients see it."""
        elapsed = time.monotonic() - self._started
        running = [name for name, stage in self._stages.items() if stage["status"] == "running"]
        fraction, left = self._rest()
        return {
            "fraction": fraction,
            "elapsed_s": round(elapsed, 2),
            "remaining_s": round(left, 1) if self._measured else None,
            "stage": running[-1] if running else None,
            "stages": [dict(stage) for stage in self._stages.values()],
            "memory": {**dict.fromkeys(MEMORY_FIGURES), **self._memory},
        }

    def _insert(self, name: str) -> dict[str, Any]:
        """A stage that nobody expected, put where it belongs in the order of all stages."""
        order = {stage: place for place, stage in enumerate(STAGE_NAMES)}
        self._stages[name] = _stage(name)
        self._stages = dict(sorted(self._stages.items(), key=lambda item: order[item[0]]))
        return self._stages[name]

    def _fill(self, stage: dict[str, Any], runs: list[dict[str, Any]]) -> None:
        last = runs[-1]
        peaks = [run["peak_device_mb"] for run in runs if run.get("peak_device_mb") is not None]
        stage.update(
            status="done" if all(run["finished"] for run in runs) else "running",
            seconds=round(sum(run["seconds"] for run in runs), 3),
            steps=last["steps"],
            total=last["total"],
            unit=last["unit"],
            peak_device_mb=max(peaks, default=None),
            levers=_unique(lever for run in runs for lever in run["levers"]),
            warnings=_unique(warning for run in runs for warning in run["warnings"]),
        )
        if stage["status"] == "running":
            self._skip_before(stage["name"])

    def _skip_before(self, name: str) -> None:
        """Stages run in order, except loading, which comes whenever something is needed."""
        if name == "load":
            return
        for earlier in self._stages.values():
            if earlier["name"] == name:
                return
            if earlier["status"] == "waiting" and earlier["name"] != "load":
                earlier["status"] = "skipped"

    def _rest(self) -> tuple[float, float]:
        """(the share that is done, seconds that are left)."""
        done = left = 0.0
        for name, stage in self._stages.items():
            usual = max(self._usual_s.get(name, 0.0 if self._measured else _USUAL_S[name]), 0.01)
            if stage["status"] in ("done", "skipped"):
                done += usual
            elif stage["status"] == "running":
                share = stage["steps"] / stage["total"] if stage["total"] else min(0.9, stage["seconds"] / usual)
                done += usual * share
                left += usual * (1 - share)
            else:
                left += usual
        return round(done / (done + left), 4), left


def _stage(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "status": "waiting",
        "seconds": 0.0,
        "steps": 0,
        "total": None,
        "unit": "step",
        "peak_device_mb": None,
        "levers": [],
        "warnings": [],
    }


def _unique(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
