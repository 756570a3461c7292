"""One job: its stages recorded and cancellable, the report, and the files written at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import hy3dgen
from hy3dgen.errors import Cancelled
from hy3dgen.jobs.keep import Keep
from hy3dgen.jobs.making import Made, make
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.output import Target, write_files
from hy3dgen.jobs.result import Result, encode_result
from hy3dgen.jobs.task import Task
from hy3dgen.jobs.techniques import decide
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.preview import render_preview
from hy3dgen.reports.run import Circumstances, Facts, as_json, build_report, plain
from hy3dgen.runtime import memory
from hy3dgen.runtime.attention import use_backend
from hy3dgen.runtime.stages import CancelEvent, Listener, check_cancelled, recording, stage


@dataclass(frozen=True)
class Surroundings:
    """What is around a job: who listens, who may stop it, where stages are kept, and the command for the report.

    on_shape: called with the mesh as soon as there is one, before it gets its colours
    """

    listener: Listener | None = None
    cancel_event: CancelEvent | None = None
    keep: Path | None = None
    command: tuple[str, ...] = ()
    on_shape: Callable[[Mesh], None] | None = None


def run_task(task: Task, models: Models, target: Target | None = None, around: Surroundings | None = None) -> Result:
    """Make one mesh.

    task: what from; models: the loaded models with the options; target: the files to write, None for none
    Everything that can be wrong with the inputs is found before a model is loaded. Raises the errors of
    ``hy3dgen.errors``; nothing half-written stays.
    """
    around = around or Surroundings()
    started = perf_counter()
    circumstances = Circumstances(
        command=list(around.command), machine=models.machine(), name=task.name, folder=str(Path.cwd())
    )
    options = options_for(task, models)
    keep = Keep(around.keep) if around.keep is not None else None
    with (
        recording(device=models.device, cancel_event=around.cancel_event, listener=around.listener) as run,
        use_backend(None if options.attention == "auto" else options.attention),
    ):
        made = _make_or_let_go(task, options, models, keep, around.on_shape)
        facts = _facts(task, made, options, models)
        with stage("export") as record:
            for name in keep.damaged if keep is not None else ():
                record.warn(f"the kept stage '{name}' was damaged and has been made again")
            if keep is not None and keep.trouble is not None:
                record.warn(f"from here on stages could not be kept: {keep.trouble}")
            preview = render_preview(made.mesh) if options.preview else None
            result = Result(made.mesh, {}, preview, made.views, facts.as_dict())
            files = encode_result(result, options, target, task.name) if target is not None else {}
            check_cancelled()  # the last moment at which nothing has been written
            outputs = write_files(files)
    circumstances.seconds = perf_counter() - started
    circumstances.plan = models.memory_report(run.stages)
    circumstances.techniques = decide(options, models.compute(), run.stages)
    circumstances.peak_host_bytes = memory.peak_host_bytes()
    report = build_report(facts, circumstances, run.stages, outputs)
    write_report(report, target)
    return replace(result, report=report, resumed=tuple(keep.resumed) if keep is not None else ())


def write_report(report: Mapping[str, Any], target: Target | None) -> None:
    """Write the report of a task beside its files, when it is wanted."""
    if target is not None and target.report is not None:
        write_files({target.report: ("report", as_json(report).encode())})


def _make_or_let_go(
    task: Task, options: JobOptions, models: Models, keep: Keep | None, on_shape: Callable[[Mesh], None] | None
) -> Made:
    """The stages of a task; a cancelled one leaves nothing on the device."""
    try:
        return make(task, options, models, keep, on_shape=on_shape)
    except Cancelled:
        models.forget()
        raise


def options_for(task: Task, models: Models) -> JobOptions:
    """The options of one task: its own seed, and a given mesh stays where it lies unless asked otherwise."""
    options = models.options
    if task.seed is not None:
        options = options.with_(seed=task.seed)
    if options.origin is None:
        options = options.with_(origin="centre" if task.mesh is None else "keep")
    return options


def _facts(task: Task, made: Made, options: JobOptions, models: Models) -> Facts:
    mesh = made.mesh
    extent = np.ptp(mesh.vertices, axis=0)
    figures: Mapping[str, Any] = {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "extent": [round(float(side), 6) for side in extent],
        "texture_px": None if mesh.texture is None else mesh.texture.shape[0],
        **made.figures,
    }
    return Facts(
        version=hy3dgen.__version__,
        model=models.name,
        options=options.result_part(),
        compute=models.compute(),
        inputs=made.sources,
        weights=models.weight_files() if task.mesh is None else [],
        mesh={name: plain(value) for name, value in figures.items()},
    )
