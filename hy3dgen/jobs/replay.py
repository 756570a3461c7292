"""A report back into the job that it tells of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hy3dgen.errors import InputError
from hy3dgen.jobs.identity import mesh_hash, picture_hash
from hy3dgen.jobs.options import JobOptions, options_from
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG, Task


def options_of(report: Mapping[str, Any], changes: Mapping[str, Any]) -> JobOptions:
    """The options of a reported run, with ``changes`` on top. Names that this version does not know are left out."""
    known = {field.name for field in fields(JobOptions)}
    values = {name: value for name, value in report["options"].items() if name in known}
    compute = report.get("compute") or {}
    values.setdefault("device", compute.get("device"))
    return options_from({**values, **{name: value for name, value in changes.items() if value is not None}})


def task_of(report: Mapping[str, Any], *, name: str) -> Task:
    """The task of a reported run, from the paths in it. name: stem of the new files where the report has none.

    Raises InputError when the report has no paths (as inside a GLB), a file is gone, or its content has changed since.
    """
    folder = Path(report.get("folder") or "")
    sources = {source["role"]: {**source, "folder": folder} for source in report.get("inputs", [])}
    prompt = sources.pop("prompt", {}).get("path")
    mesh = sources.pop("mesh", None)
    views = {view: _unchanged(sources[view], picture_hash) for view in VIEW_AZIMUTHS_DEG if view in sources}
    mesh_path = _unchanged(mesh, mesh_hash) if mesh is not None else None
    return Task(name=report.get("name") or name, pictures=views, mesh=mesh_path, prompt=prompt)


def _unchanged(source: Mapping[str, Any], digest_of: Any) -> Path:
    if not source.get("path"):
        raise InputError(
            f"the report does not say where the {source['role']} input lay; replay the .json report of a run that read "
            "its inputs from files"
        )
    path = Path(source["path"]).expanduser()
    if not path.is_file():
        path = source["folder"] / path  # replayed from another folder than the run's
    if not path.is_file():
        raise InputError(f"the {source['role']} input of the run, '{path}', is not there any more; put it back")
    if digest_of(path) != source["sha256"]:
        raise InputError(
            f"the {source['role']} input of the run, '{path}', has changed since, so the same result cannot be made"
        )
    return path
