"""What does the jobs inside a worker process: from an order to files, with the models kept between jobs.

Imports torch, so the server itself never imports this module.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hy3dgen.errors import UsageError
from hy3dgen.jobs.memory import Ceiling
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions, options_from
from hy3dgen.jobs.output import Target
from hy3dgen.jobs.result import Result, encode_picture, encode_result
from hy3dgen.jobs.run import Surroundings, options_for, run_task
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG, Task
from hy3dgen.meshes.io import encode_mesh, read_mesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.reports.run import as_json
from hy3dgen.runtime.device import CUDA, MPS, describe, pick_device
from hy3dgen.runtime.files import sha256_of_bytes, write_atomic
from hy3dgen.runtime.machine import ceiling_bytes, let_go, machine_of
from hy3dgen.runtime.memory import GIB, MIB, held_bytes, host_bytes, release_cached
from hy3dgen.runtime.stages import CancelEvent, StageRecord
from hy3dgen.service.order import Order
from hy3dgen.service.progress import expected_stages
from hy3dgen.service.settings import RunnerSettings

Tell = Callable[[str, Any], None]
MEDIA_TYPES = {"glb": "model/gltf-binary", "obj": "application/zip", "ply": "model/ply", "stl": "model/stl"}
ENDINGS = {"glb": ".glb", "obj": ".zip", "ply": ".ply", "stl": ".stl"}


class JobRunner:
    """Runs one order after the other on one device. Whoever runs it owns the process."""

    def __init__(self, settings: RunnerSettings) -> None:
        self.settings = settings
        self.device = pick_device(settings.device)
        self._models: Models | None = None

    def facts(self) -> dict[str, Any]:
        """What clients may know of the device."""
        total = ceiling = None
        if self.device.type in (CUDA, MPS):
            machine = machine_of(self.device)
            total = round(machine.total_bytes / GIB, 2)
            ceiling = round(ceiling_bytes(self.settings.vram or "auto", machine) / GIB, 2)
        return {"name": describe(self.device), "kind": self.device.type, "total_gib": total, "ceiling_gib": ceiling}

    def release(self) -> None:
        """Let go of everything that is loaded."""
        if self._models is not None:
            self._models.forget()
            self._models = None
        release_cached(self.device)

    def run(self, order: Order, tell: Tell, cancel_event: CancelEvent) -> dict[str, Any]:
        """Make what is ordered; returns the job's ``result`` but for the addresses of its files.

        tell: ``begin``, ``stage`` and ``mesh`` with what they say. Raises the errors of ``hy3dgen.errors``.
        """
        folder = Path(order.folder)
        files = folder / "files"
        task = _task(order, folder / "inputs")
        models = self._models_for(order, task)
        options = options_for(task, models)
        watch = _Watch(tell, self.device, models.ceiling)
        tell("begin", _beginning(task, options, models))
        around = Surroundings(
            listener=watch,
            cancel_event=cancel_event,
            keep=folder / "keep",
            command=("api_server.py",),
            on_shape=lambda mesh: _show_shape(mesh, task.name, files, tell),
        )
        result = run_task(task, models, Target(files / "result.glb", files / "preview.png", None), around)
        return _finish(result, order, options, files)

    def _models_for(self, order: Order, task: Task) -> Models:
        options = _options(order, self.settings)
        let_go(self.device)  # the ceiling of the job before is not this one's
        has_shape, many_views = task.mesh is None, len(task.pictures) > 1
        models = Models(options, many_views=many_views, has_shape=has_shape, keep_background=True)
        if self._models is not None:
            models.take_over(self._models)
        self._models = models
        return models


@dataclass
class _Watch:
    """Passes on what the stages say, with the memory of the moment."""

    tell: Tell
    device: torch.device
    ceiling: Ceiling | None
    peak_mb: float = 0.0

    def __call__(self, record: StageRecord) -> None:
        self.tell("stage", self._as_message(record))

    def _as_message(self, record: StageRecord) -> dict[str, Any]:
        peak = self._used_mb(record.peak_reserved_bytes) if record.peak_reserved_bytes else None
        return {
            "record": id(record),
            "name": record.name,
            "finished": bool(record.figures.get("finished")),
            "seconds": record.seconds,
            "steps": record.steps_done,
            "total": record.steps_total,
            "unit": record.unit,
            "peak_device_mb": peak,
            "levers": list(record.levers),
            "warnings": list(record.warnings),
            "memory": self._memory(peak),
        }

    def _memory(self, peak_mb: float | None) -> dict[str, Any]:
        figures: dict[str, Any] = {"device": self.device.type, "host_mb": round(host_bytes() / MIB, 1)}
        if self.device.type in (CUDA, MPS):
            used_mb = self._used_mb(held_bytes(self.device))
            self.peak_mb = max(self.peak_mb, used_mb, peak_mb or 0.0)
            ceiling_mb = None if self.ceiling is None else round(self.ceiling.size_bytes / MIB, 1)
            figures |= {"ceiling_mb": ceiling_mb, "used_mb": used_mb, "peak_mb": self.peak_mb}
        return figures

    def _used_mb(self, reserved_bytes: int) -> float:
        """What the process takes with this much reserved: as the ceiling counts it, so with the device's context."""
        context = 0 if self.ceiling is None else self.ceiling.machine.context_bytes
        return round((reserved_bytes + context) / MIB, 1)


def _options(order: Order, settings: RunnerSettings) -> JobOptions:
    """What the client asked for within what the server allows."""
    asked = dict(order.options)
    if asked.get("model", "auto") == "auto":
        asked["model"] = settings.model
    if not settings.enable_texture:
        asked["texture"] = "none"
    elif asked.get("texture", "auto") == "auto":
        asked["texture"] = settings.texture
    asked.setdefault("vram", settings.vram)
    if settings.decoder is not None:
        asked.setdefault("decoder", settings.decoder)
    # Requests never make the server use the network.
    return options_from({**asked, "device": settings.device, "compile": settings.compile, "offline": True})


def _task(order: Order, inputs: Path) -> Task:
    """The task with everything read: messages then speak of the picture, not of the server's folders."""
    pictures: dict[str, bytes] = {}
    mesh: Mesh | None = None
    for entry in order.inputs:
        if entry.file is None:
            continue
        path = inputs / entry.file
        if entry.role == "mesh":
            mesh = read_mesh(path)
        elif entry.role in VIEW_AZIMUTHS_DEG:
            pictures[entry.role] = path.read_bytes()
        else:
            raise UsageError(f"unknown input '{entry.role}'")
    ordered = {view: pictures[view] for view in VIEW_AZIMUTHS_DEG if view in pictures}
    return Task(name=order.name, pictures=ordered, mesh=mesh, prompt=order.text)


def _beginning(task: Task, options: JobOptions, models: Models) -> dict[str, Any]:
    """What is known once the models have been chosen."""
    expected = expected_stages(
        has_shape=task.mesh is None,
        from_words=task.prompt is not None,
        texture=options.texture,
        delight=options.delight,
    )
    return {"model": models.name, "texture": options.texture, "stages": expected}


def _show_shape(mesh: Mesh, name: str, files: Path, tell: Tell) -> None:
    """Write the bare shape so that it can be looked at while the texture is made."""
    [content] = encode_mesh(mesh, f"{name}.glb", origin="keep").values()
    write_atomic(files / "mesh.glb", content)
    tell("mesh", None)


def _finish(result: Result, order: Order, options: JobOptions, files: Path) -> dict[str, Any]:
    """Write what else belongs to a result: the other formats, the cut-outs and the report."""
    written = {"glb": (files / "result.glb").read_bytes()}
    for kind in order.formats:
        if kind != "glb":
            written[kind] = _encode(result, order.name, kind, options)
            write_atomic(files / f"result{ENDINGS[kind]}", written[kind])
    for view, cutout in result.cutouts.items():
        write_atomic(files / f"cutout_{view}.png", encode_picture(np.asarray(cutout)))
    report = _public_report(result.report)
    write_atomic(files / "report.json", as_json(report))
    mesh, plan = report["mesh"], report["plan"] or {}
    figures = ("vertices", "faces", "watertight", "extent", "texture_px", "parts_removed", "coverage")
    return {
        "files": {kind: _file_facts(kind, order.name, content) for kind, content in written.items()},
        "preview": result.preview is not None,
        "cutouts": list(result.cutouts),
        "statistics": {name: mesh.get(name) for name in figures},
        "model": report["model"],
        "texture": report["options"]["texture"],
        "seed": report["seed"],
        "seconds": report["seconds"],
        "peak_device_mb": plan.get("peak_device_mb"),
        "warnings": report["warnings"],
    }


def _encode(result: Result, name: str, kind: str, options: JobOptions) -> bytes:
    """The mesh in another format; the several files of an OBJ as a zip."""
    target = Target(Path(f"{name}.{kind}"), None, None)
    files = {path.name: content for path, (_, content) in encode_result(result, options, target, name).items()}
    return _pack(files) if kind == "obj" else files[target.mesh.name]


def _pack(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files, the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
        for file_name, content in files.items():
            entry = zipfile.ZipInfo(file_name)  # without a time of its own it bears 1980
            packed = zipfile.ZIP_STORED if file_name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content, compress_type=packed, compresslevel=4)
    return buffer.getvalue()


def _file_facts(kind: str, name: str, content: bytes) -> dict[str, Any]:
    return {
        "filename": f"{name}{ENDINGS[kind]}",
        "bytes": len(content),
        "media_type": MEDIA_TYPES[kind],
        "sha256": sha256_of_bytes(content),
    }


def _public_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with file names instead of the server's folders."""
    outputs = [{**entry, "path": Path(entry["path"]).name} for entry in report["outputs"]]
    model = str(report["model"])
    model = Path(model).name if Path(model).is_absolute() else model
    return {**report, "outputs": outputs, "model": model, "options": {**report["options"], "model": model}}
