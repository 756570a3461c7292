"""What a worker is told to do: a job without its history. Values only, so that they travel between processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hy3dgen.service.job import Input, Job


@dataclass(frozen=True)
class Order:
    """One job to do. folder: of the job, with ``inputs/`` inside; options: fields of ``JobOptions``."""

    id: str
    name: str
    folder: str
    inputs: tuple[Input, ...]
    text: str | None
    options: Mapping[str, Any]
    formats: tuple[str, ...]


def order_of(job: Job, folder: str) -> Order:
    """The order for a job whose files lie in ``folder``."""
    return Order(job.id, job.name, folder, tuple(job.inputs), job.text, dict(job.options), tuple(job.formats))
