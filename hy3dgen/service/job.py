"""One job as the service keeps it, and as clients see it. Values and small changes; no threads, no files."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

Status = Literal["queued", "running", "done", "failed", "cancelled"]
KindOfJob = Literal["picture", "views", "text", "mesh"]
FINAL = ("done", "failed", "cancelled")


def new_id() -> str:
    """32 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(16)


def is_id(words: str) -> bool:
    """Whether this can be a job's id, so that it may be part of a path."""
    return len(words) == 32 and set(words) <= set("0123456789abcdef")


@dataclass(frozen=True)
class Input:
    """One thing that a job is made from. file: its name in the job's input folder, None for words."""

    role: str
    bytes: int
    file: str | None = None
    width: int | None = None
    height: int | None = None
    faces: int | None = None


@dataclass
class Job:
    """A job. Times are seconds since 1970; ``problem`` and ``result`` are plain values, as clients see them.

    client: whose turn it takes; options: what was asked for; fingerprint: jobs with the same one take about as long
    """

    id: str
    name: str
    kind: KindOfJob
    client: str
    inputs: list[Input]
    options: dict[str, Any]
    formats: list[str]
    fingerprint: str
    text: str | None = None
    status: Status = "queued"
    cancel_requested: bool = False
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    progress: dict[str, Any] | None = None
    mesh_ready: bool = False
    result: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def as_document(self) -> dict[str, Any]:
        """Everything, as plain values for the store."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Job:
        """The job that ``as_document`` wrote down; members of later versions are passed over."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        values["inputs"] = [Input(**entry) for entry in values["inputs"]]
        return cls(**values)

    def as_public(self, *, queue: Mapping[str, Any] | None, keep_s: float) -> dict[str, Any]:
        """The job as clients see it. queue: position and estimate; keep_s: how long finished jobs stay."""
        own = f"/v1/jobs/{self.id}"
        parts = ("events", "cancel", "mesh", "result", "preview", "cutout", "report")
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "status": self.status,
            "cancel_requested": self.cancel_requested,
            "created_at": as_iso(self.created),
            "started_at": as_iso(self.started),
            "finished_at": as_iso(self.finished),
            "expires_at": None if self.finished is None else as_iso(self.finished + keep_s),
            "inputs": [{k: v for k, v in asdict(i).items() if k != "file"} for i in self.inputs],
            "text": self.text,
            "options": self.options,
            "formats": self.formats,
            "queue": None if queue is None or self.status != "queued" else dict(queue),
            "progress": self.progress,
            "mesh_ready": self.mesh_ready,
            "result": self.result,
            "error": self.problem,
            "links": {"self": own, **{part: f"{own}/{part}" for part in parts}},
        }


def kind_of(roles: Sequence[str], *, text: bool) -> KindOfJob:
    """What a job with these inputs is called."""
    if "mesh" in roles:
        return "mesh"
    if text:
        return "text"
    return "views" if len(roles) > 1 else "picture"


def as_iso(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC with a Z, to milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
