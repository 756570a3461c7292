"""What a run leaves behind as JSON: versioned, and split into what repeats exactly and what does not.

Knows the stage records of ``runtime.stages`` and plain values; not what a mesh or a model is.
The format is described by docs/report.schema.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hy3dgen.errors import InputError
from hy3dgen.reports.shape import wrong_part
from hy3dgen.runtime.stages import Decision, StageRecord

SCHEMA_VERSION = 1
MIB = 1 << 20


@dataclass(frozen=True)
class Source:
    """One thing the user gave: ``role`` is front, left, back, right, mesh or prompt."""

    role: str
    sha256: str
    path: str | None = None


@dataclass(frozen=True)
class WeightFile:
    """One weight file that was used, named without the machine's folders."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class OutputFile:
    """One file that was written."""

    role: str
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Facts:
    """What repeats exactly when the run is repeated on the same machine's CPU; also stored inside the GLB.

    options: the options that decide the result, with the model's defaults filled in
    compute: {'device': 'cpu', 'dtype': 'float32', 'attention': 'sdpa'}
    mesh: {'vertices', 'faces', 'watertight', 'size', 'texture', …}
    """

    version: str
    model: str
    options: Mapping[str, Any]
    compute: Mapping[str, str]
    inputs: Sequence[Source]
    weights: Sequence[WeightFile]
    mesh: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; paths of inputs are left out, since they do not change the result."""
        return {
            "schema": SCHEMA_VERSION,
            "version": self.version,
            "model": self.model,
            "seed": self.options.get("seed"),
            "options": plain(self.options),
            "compute": dict(self.compute),
            "inputs": [{"role": s.role, "sha256": s.sha256} for s in self.inputs],
            "weights": [asdict(w) for w in self.weights],
            "mesh": dict(self.mesh),
        }


@dataclass
class Circumstances:
    """What differs from run to run: where, when, with what command, and how much memory it took.

    name: what the result was called; folder: the working directory, which relative paths of inputs start from
    """

    command: list[str] = field(default_factory=list)
    name: str = ""
    folder: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    peak_host_bytes: int = 0
    plan: Mapping[str, Any] | None = None
    techniques: Sequence[Decision] = ()


def build_report(
    facts: Facts,
    circumstances: Circumstances,
    stages: Sequence[StageRecord],
    outputs: Sequence[OutputFile] = (),
) -> dict[str, Any]:
    """The whole report as plain values, ready for ``json.dumps``; validates against docs/report.schema.json."""
    return {
        "schema": SCHEMA_VERSION,
        "program": "hy3dgen",
        "version": facts.version,
        "started": circumstances.started.isoformat(timespec="seconds"),
        "command": list(circumstances.command),
        "name": circumstances.name,
        "folder": circumstances.folder,
        "seed": facts.options.get("seed"),
        "model": facts.model,
        "options": plain(facts.options),
        "compute": dict(facts.compute),
        "machine": dict(circumstances.machine),
        "inputs": [asdict(s) for s in facts.inputs],
        "weights": [asdict(w) for w in facts.weights],
        "plan": plain(circumstances.plan),
        "techniques": [asdict(decision) for decision in circumstances.techniques],
        "stages": [stage_as_dict(record) for record in stages],
        "warnings": [warning for record in stages for warning in record.warnings],
        "mesh": dict(facts.mesh),
        "outputs": [asdict(o) for o in outputs],
        "seconds": round(circumstances.seconds, 3),
        "peak_host_mb": round(circumstances.peak_host_bytes / MIB, 1),
    }


def stage_as_dict(record: StageRecord) -> dict[str, Any]:
    """One stage record as plain values: seconds, peaks in MiB, steps, levers, techniques, warnings and figures."""
    return {
        "name": record.name,
        "seconds": round(record.seconds, 4),
        "peak_allocated_mb": round(record.peak_allocated_bytes / MIB, 1),
        "peak_reserved_mb": round(record.peak_reserved_bytes / MIB, 1),
        "steps": record.steps_done,
        "unit": record.unit,
        "levers": list(record.levers),
        "techniques": [asdict(decision) for decision in record.decisions],
        "warnings": list(record.warnings),
        "figures": {name: plain(value) for name, value in record.figures.items() if name != "finished"},
    }


def plain(value: Any) -> Any:
    """A value that JSON knows: NumPy scalars become numbers, tuples lists, paths and the rest text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing NumPy
        return value.tolist()
    return str(value)


def as_json(report: Mapping[str, Any]) -> str:
    """A report as text: indented, stable, with a line end."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def read_report(path: Path) -> dict[str, Any]:
    """A report from its JSON file, or from the extras of a GLB that this program wrote.

    From a GLB comes only the part that repeats exactly. Raises InputError when the file is missing, is neither, or is
    of a newer schema, or has a part that no run writes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the report '{path}': {error.strerror or error}") from error
    try:
        report = _glb_extras(data) if data[:4] == b"glTF" else json.loads(data)
    except ValueError as error:
        raise InputError(
            f"'{path}' is not a report: {error}; give the .json (or the .glb) that a run has written"
        ) from error
    if not isinstance(report, dict) or not isinstance(report.get("schema"), int) or "options" not in report:
        raise InputError(
            f"'{path}' is not a report of this program; give the .json (or the .glb) that a run has written"
        )
    if report["schema"] > SCHEMA_VERSION:
        raise InputError(
            f"'{path}' has report schema {report['schema']}, this version knows {SCHEMA_VERSION}; update the program"
        )
    wrong = wrong_part(report)
    if wrong is not None:
        raise InputError(
            f"the report '{path}' is damaged or was edited: its part '{wrong}' is not what a run writes; give the "
            "file as the run has written it"
        )
    return report


def _glb_extras(data: bytes) -> Any:
    """``asset.extras`` of a GLB: 12 bytes of header, then the JSON chunk (glTF 2.0, section 4.4)."""
    length = int.from_bytes(data[12:16], "little")
    if data[16:20] != b"JSON" or len(data) < 20 + length:
        raise ValueError("the GLB is damaged")
    extras = json.loads(data[20 : 20 + length]).get("asset", {}).get("extras")
    if extras is None:
        raise ValueError("the GLB has no report inside, so another program wrote it")
    return extras
