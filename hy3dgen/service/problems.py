"""What goes wrong, as people and programs are told over HTTP: the one table from error class to status and code.

A problem is a value of RFC 9457 (problem+json). Knows the error tree and nothing of FastAPI.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hy3dgen.errors import (
    Cancelled,
    Hy3dgenError,
    ImageError,
    InputError,
    MemoryBudgetError,
    MeshError,
    MissingExtraError,
    NoPlanError,
    NoSurfaceError,
    OutputError,
    UsageError,
    WeightsError,
    WeightsNotFoundError,
)

_FOLDERS = re.compile(r"""(?<![\w:/\\.])(?:[A-Za-z]:)?[\\/](?:[^\s'"\\/:]+[\\/])+""")
_FLAG = re.compile(r"(?<!\S)--([a-z][a-z-]*[a-z])")
MEDIA_TYPE = "application/problem+json"
RETRY_S = 30


@dataclass(frozen=True)
class Kind:
    """One sort of problem: HTTP status, code for programs, title for people."""

    status: int
    code: str
    title: str


MALFORMED = Kind(400, "malformed", "The request cannot be read")
UNAUTHORIZED = Kind(401, "unauthorized", "A valid bearer token is needed")
NOT_FOUND = Kind(404, "not-found", "There is nothing here")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "This route does not take this method")
TIMEOUT = Kind(408, "timeout", "The request came too slowly")
NOT_READY = Kind(409, "not-ready", "The job has not come so far")
NOT_AVAILABLE = Kind(409, "not-available", "The job has no such result")
CANCELLED = Kind(409, "cancelled", "The job was cancelled")
ALREADY_FINISHED = Kind(409, "already-finished", "The job has ended")
TOO_LARGE = Kind(413, "too-large", "The request is too large")
UNSUPPORTED_TYPE = Kind(415, "unsupported-type", "This type of content is not taken here")
BAD_REQUEST = Kind(422, "bad-request", "The request makes no sense")
BAD_PICTURE = Kind(422, "bad-picture", "A picture cannot be used")
BAD_MESH = Kind(422, "bad-mesh", "The mesh cannot be used")
BAD_INPUT = Kind(422, "bad-input", "The input cannot be used")
NO_SURFACE = Kind(422, "no-surface", "No surface was found")
FEATURE_UNAVAILABLE = Kind(422, "feature-unavailable", "This server cannot do that")
NO_PLAN = Kind(422, "no-plan", "The memory ceiling is too low")
TOO_MANY_JOBS = Kind(429, "too-many-jobs", "You have too many jobs waiting")
INTERNAL = Kind(500, "internal", "Something is wrong with the program")
WORKER_DIED = Kind(500, "worker-died", "The worker process ended in the middle of the job")
QUEUE_FULL = Kind(503, "queue-full", "The queue is full")
BUSY = Kind(503, "busy", "The server is receiving too much at once")
STOPPING = Kind(503, "stopping", "The server is shutting down")
WEIGHTS = Kind(503, "weights", "The weights cannot be used")
OUT_OF_MEMORY = Kind(507, "out-of-memory", "There is not enough memory")
NO_SPACE = Kind(507, "no-space", "The server cannot store the result")

# The nearest class in the error's own order of ancestors decides.
KINDS: dict[type[BaseException], Kind] = {
    UsageError: BAD_REQUEST,
    MissingExtraError: FEATURE_UNAVAILABLE,
    ImageError: BAD_PICTURE,
    MeshError: BAD_MESH,
    NoSurfaceError: NO_SURFACE,
    InputError: BAD_INPUT,
    WeightsNotFoundError: FEATURE_UNAVAILABLE,
    WeightsError: WEIGHTS,
    NoPlanError: NO_PLAN,
    MemoryBudgetError: OUT_OF_MEMORY,
    MemoryError: OUT_OF_MEMORY,
    OutputError: NO_SPACE,
    Cancelled: CANCELLED,
}
RETRY_LATER = frozenset({TOO_MANY_JOBS.code, QUEUE_FULL.code, BUSY.code, STOPPING.code})


@dataclass(frozen=True)
class Problem:
    """One problem document. errors: ``{"field": …, "detail": …}`` for each field to blame."""

    kind: Kind
    detail: str
    errors: Sequence[Mapping[str, str]] = field(default_factory=tuple)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Problem:
        """The problem that ``as_dict`` described."""
        kind = Kind(document["status"], document["code"], document["title"])
        return cls(kind, document["detail"], tuple(document.get("errors", ())))

    @property
    def status(self) -> int:
        return self.kind.status

    @property
    def retry_after_s(self) -> int | None:
        """Seconds after which it is worth trying again; None when trying again does not help."""
        return RETRY_S if self.kind.code in RETRY_LATER else None

    def as_dict(self) -> dict[str, Any]:
        """The document as plain values."""
        document: dict[str, Any] = {
            "type": f"urn:hy3dgen:problem:{self.kind.code}",
            "code": self.kind.code,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [dict(error) for error in self.errors]
        return document


class ServiceError(Hy3dgenError):
    """A request that the service does not fulfil, with the problem to answer."""

    def __init__(self, kind: Kind, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.problem = Problem(kind, detail, tuple(errors))


def problem_of(error: BaseException) -> Problem:
    """The problem to show for ``error``; what was not raised on purpose is 'internal' and shows no details."""
    if isinstance(error, ServiceError):
        return error.problem
    for ancestor in type(error).__mro__:
        if ancestor in KINDS:
            return Problem(KINDS[ancestor], _sentence(error))
    if type(error).__name__ == "OutOfMemoryError":  # torch's own; torch is not imported here
        return Problem(
            OUT_OF_MEMORY, "the device's memory ran out; ask for a smaller octree_resolution or texture_size"
        )
    return Problem(INTERNAL, f"an unexpected {type(error).__name__} stopped the job; the server's log has the details")


def without_paths(words: str) -> str:
    """The words with every absolute path cut down to its last part: clients need not know the server's folders."""
    return _FOLDERS.sub("", words)


def in_fields(words: str) -> str:
    """The words with options as clients write them: 'texture_size' for '--texture-size'."""
    return _FLAG.sub(lambda found: found[1].replace("-", "_"), words)


def _sentence(error: BaseException) -> str:
    if isinstance(error, MemoryError) and not str(error):
        return "the machine ran out of memory; ask for a smaller octree_resolution or texture_size"
    return in_fields(without_paths(str(error) or type(error).__name__))
