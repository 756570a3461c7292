"""A runner that makes no meshes: what it does stands in the name of the job. Seconds instead of minutes, no torch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hy3dgen.errors import Cancelled, NoSurfaceError, OutOfMemoryError
from hy3dgen.runtime.files import sha256_of_bytes, write_atomic
from hy3dgen.runtime.stages import CancelEvent
from hy3dgen.service.order import Order
from hy3dgen.service.settings import RunnerSettings
from hy3dgen.service.storage import RESULTS
from hy3dgen.service.worker import Tell

GLB = b"glTF" + b"\2\0\0\0" + b"\x14\0\0\0" + b"\0" * 8
STEP_S = 0.01


class StandIn:
    """'slow' runs for minutes unless it is cancelled; 'stubborn' does not listen; 'crash', 'bug', 'nothing' and
    'memory' fail in their own ways; everything else is done at once."""

    def __init__(self, settings: RunnerSettings) -> None:
        self.settings = settings

    def facts(self) -> dict[str, Any]:
        if self.settings.device == "broken":
            raise NoSurfaceError("this device is broken")
        return {"name": "a stand-in", "kind": "cpu", "total_gib": None, "ceiling_gib": None}

    def release(self) -> None:
        pass

    def run(self, order: Order, tell: Tell, cancel_event: CancelEvent) -> dict[str, Any]:
        files = Path(order.folder) / "files"
        # Where it ran and how often, for the tests to read.
        with (Path(order.folder) / "runs.txt").open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        tell("begin", {"stages": ["cutout", "denoise", "bake", "export"], "model": "stand-in", "texture": "project"})
        tell("stage", stage(1, "cutout"))
        tell("stage", stage(1, "cutout", finished=True))
        write_atomic(files / "mesh.glb", GLB)
        tell("mesh", None)
        steps = {"slow": 30_000, "stubborn": 30_000, "brief": 50}.get(order.name.split("-")[0], 1)
        for step in range(steps):
            tell("stage", stage(2, "denoise", steps=step, total=steps))
            misbehave(order.name)
            if cancel_event.is_set() and not order.name.startswith("stubborn"):
                raise Cancelled("cancelled")
            time.sleep(STEP_S)
        tell("stage", stage(2, "denoise", finished=True, steps=steps, total=steps))
        return result(order, files)


def make_stand_in(settings: RunnerSettings) -> StandIn:
    return StandIn(settings)


def misbehave(name: str) -> None:
    if name == "crash":
        os._exit(3)
    if name == "bug":
        raise ValueError("/secret/folder/file is a detail that nobody should see")
    if name == "nothing":
        raise NoSurfaceError("there is no surface in '/secret/folder/picture.png'")
    if name == "memory":
        raise OutOfMemoryError("stage 'denoise' needs more than there is")


def stage(run: int, name: str, *, finished: bool = False, steps: int = 0, total: int | None = None) -> dict[str, Any]:
    return {
        "record": run, "name": name, "finished": finished, "seconds": 0.5 if finished else 0.0, "steps": steps,
        "total": total, "unit": "step", "peak_device_mb": None, "levers": [], "warnings": [],
        "memory": {"device": "cpu", "host_mb": 10.0},
    }  # fmt: skip


def result(order: Order, files: Path) -> dict[str, Any]:
    for name in order.formats:
        write_atomic(files / RESULTS[name], GLB)
    write_atomic(files / "preview.png", b"\x89PNG stand-in")
    write_atomic(files / "cutout_front.png", b"\x89PNG stand-in")
    write_atomic(files / "report.json", '{"schema": 1}')
    facts = {"bytes": len(GLB), "media_type": "model/gltf-binary", "sha256": sha256_of_bytes(GLB)}
    return {
        "files": {name: {"filename": f"{order.name}.{name}", **facts} for name in order.formats},
        "preview": True,
        "cutouts": ["front"],
        "statistics": {
            "vertices": 3, "faces": 1, "watertight": False, "extent": [1.0, 1.0, 0.0], "texture_px": 64,
            "parts_removed": 0, "coverage": {"seen": 0.5, "blended": 0.25, "filled": 0.25},
        },
        "model": "stand-in",
        "texture": "project",
        "seed": 0,
        "seconds": 0.1,
        "peak_device_mb": None,
        "warnings": [],
    }  # fmt: skip
