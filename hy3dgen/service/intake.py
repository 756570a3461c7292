"""From a request to a job whose inputs are stored and looked at. Everything that can be found wrong is found here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hy3dgen.jobs.options import CHOICES
from hy3dgen.jobs.output import MESH_SUFFIXES
from hy3dgen.service.availability import Availability
from hy3dgen.service.checks import MAX_GIVEN_FACES, Checker
from hy3dgen.service.estimates import fingerprint_of
from hy3dgen.service.job import Input, Job, kind_of, new_id
from hy3dgen.service.requests import (
    OPTIONS,
    JobRequest,
    checked_formats,
    checked_name,
    checked_options,
    ensure_inputs,
    ranges,
)
from hy3dgen.service.settings import GIB, MIB, Limits, RunnerSettings
from hy3dgen.service.storage import Storage
from hy3dgen.weights import catalogue


@dataclass(frozen=True)
class Intake:
    """What it takes to accept a request."""

    storage: Storage
    checker: Checker
    availability: Availability
    runner: RunnerSettings
    limits: Limits

    def accept(self, request: JobRequest) -> Job:
        """The job, its files in the storage. Raises ServiceError; then nothing is left behind."""
        ensure_inputs(request, self.limits)
        options = checked_options(request.options, self.runner)
        formats = checked_formats(request.formats)
        self.availability.ensure(
            model=options.get("model", "auto"),
            texture=options.get("texture", "auto"),
            from_words=request.text is not None,
            delight=options.get("delight", True),
        )
        if catalogue.find(options.get("model", "nano")) is None:
            options["model"] = "auto"  # the server's own folder, which no name leads to
        identity = new_id()
        try:
            inputs = self._store(identity, request)
        except BaseException:
            self.storage.remove(identity)
            raise
        kind = kind_of([entry.role for entry in inputs], text=request.text is not None)
        return Job(
            id=identity,
            name=checked_name(request.name, request.text),
            kind=kind,
            client=request.client,
            inputs=inputs,
            options=options,
            formats=formats,
            fingerprint=fingerprint_of(kind, options),
            text=request.text,
        )

    def _store(self, identity: str, request: JobRequest) -> list[Input]:
        inputs = []
        for upload in request.uploads:
            file = self.storage.add_input(identity, upload.role, upload.suffix, upload.content)
            inputs.append(Input(upload.role, len(upload.content), file))
        inputs = self.checker.look_at(self.storage.inputs(identity), inputs)
        if request.text is not None:
            inputs.append(Input("text", len(request.text.encode())))
        return inputs


def limits_as_dict(limits: Limits) -> Mapping[str, Any]:
    """What clients may know of the limits."""
    return {
        "body_mb": limits.body_bytes / MIB,
        "pixels": limits.pixels,
        "queue": limits.queue,
        "queue_per_client": limits.queue_per_client,
        "keep_days": limits.keep_days,
        "keep_gb": limits.keep_bytes / GIB,
        "text_characters": limits.text_characters,
        "given_mesh_faces": MAX_GIVEN_FACES,
        "mesh_suffixes": list(MESH_SUFFIXES),
        "options": ranges(),
        "choices": {name: list(values) for name, values in CHOICES.items() if name in OPTIONS},
    }
