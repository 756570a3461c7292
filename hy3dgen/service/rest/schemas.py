"""The bodies of requests and answers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Format = Literal["glb", "obj", "ply", "stl"]
View = Literal["front", "left", "back", "right"]
JOB_ID = "0d5c2e0f5b1e4a9f8f4c6b0b7f1f2a11"


class FieldError(BaseModel):
    """One field to blame."""

    field: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457. ``detail`` is for people, ``code`` for programs."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:hy3dgen:problem:bad-picture",
                "code": "bad-picture",
                "title": "A picture cannot be used",
                "status": 422,
                "detail": "the picture is fully transparent; give a picture that shows an object",
            }
        }
    )
    type: str
    code: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class JobInput(BaseModel):
    role: Literal["front", "left", "back", "right", "mesh", "text"]
    bytes: int
    width: int | None
    height: int | None
    faces: int | None


class QueuePlace(BaseModel):
    """position counts from 1; estimate_s: seconds until the start, null when nothing like it has been done."""

    position: int
    ahead: int
    estimate_s: float | None


class StageState(BaseModel):
    name: str
    status: Literal["waiting", "running", "done", "skipped"]
    seconds: float
    steps: int
    total: int | None
    unit: str
    peak_device_mb: float | None
    levers: list[str]
    warnings: list[str]


class MemoryState(BaseModel):
    """MiB. The first three are null on the CPU."""

    device: str | None
    ceiling_mb: float | None
    used_mb: float | None
    peak_mb: float | None
    host_mb: float | None


class ProgressState(BaseModel):
    fraction: float
    elapsed_s: float
    remaining_s: float | None
    stage: str | None
    stages: list[StageState]
    memory: MemoryState


class ResultFile(BaseModel):
    url: str
    filename: str
    bytes: int
    media_type: str
    sha256: str


class JobResult(BaseModel):
    files: dict[str, ResultFile]
    preview: bool
    cutouts: list[str]
    statistics: dict[str, Any]
    model: str
    texture: str
    seed: int
    seconds: float
    peak_device_mb: float | None
    warnings: list[str]


class JobLinks(BaseModel):
    self: str
    events: str
    cancel: str
    mesh: str
    result: str
    preview: str
    cutout: str
    report: str


class JobDocument(BaseModel):
    """One job. ``done``, ``failed`` and ``cancelled`` are final."""

    id: str = Field(examples=[JOB_ID])
    name: str = Field(examples=["mug"])
    kind: Literal["picture", "views", "text", "mesh"]
    status: Status
    cancel_requested: bool
    created_at: str = Field(examples=["2026-11-25T10:00:00.000Z"])
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    inputs: list[JobInput]
    text: str | None
    options: dict[str, Any] = Field(examples=[{"texture": "project", "seed": 7}])
    formats: list[Format]
    queue: QueuePlace | None
    progress: ProgressState | None
    mesh_ready: bool
    result: JobResult | None
    error: ProblemDocument | None
    links: JobLinks


class JobPage(BaseModel):
    """Newest first; ``next`` is the ``before`` of the following page."""

    jobs: list[JobDocument]
    next: str | None


class Health(BaseModel):
    status: Literal["ok"]


class DeviceState(BaseModel):
    name: str
    kind: str
    total_gib: float | None
    ceiling_gib: float | None
    worker: str


class ModelState(BaseModel):
    name: str
    title: str
    here: bool
    download_gb: float
    num_views: int
    texture: str
    defaults: dict[str, Any]


class TextureState(BaseModel):
    name: str
    here: bool
    why: str | None


class QueueState(BaseModel):
    waiting: int
    running: int


class ServerFacts(BaseModel):
    name: str
    version: str
    status: Literal["starting", "ready", "failed"]
    failures: list[str]
    devices: list[DeviceState]
    model: str
    models: list[ModelState]
    textures: list[TextureState]
    features: dict[str, bool]
    why_not: dict[str, str]
    formats: list[Format]
    stages: list[str]
    limits: dict[str, Any]
    queue: QueueState
    authentication: bool


class ReferenceRequest(BaseModel):
    """What clients of the reference send. Fields that are not listed are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"image": "iVBORw0KGgo…", "texture": True, "seed": 7, "octree_resolution": 128, "type": "glb"},
                {"image": "iVBORw0KGgo…", "mesh": "Z2xURgIAAAB…", "texture": True},
            ]
        }
    )
    image: str | None = Field(None, description="base64 of a picture; a data: prefix is allowed")
    text: str | None = Field(None, description="words to make the picture from, where features.text2image")
    mesh: str | None = Field(None, description="base64 of a GLB to colour; then no shape is made")
    seed: int | None = None
    octree_resolution: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    texture: bool | None = Field(None, description="colour the mesh; left out: only when a mesh is given")
    face_count: int | None = None
    type: Format = "glb"


class Uid(BaseModel):
    uid: str = Field(examples=[JOB_ID])


class ReferenceStatus(BaseModel):
    status: Literal["processing", "completed"]
    model_base64: str | None = Field(None, description="base64 of the file, once completed")
