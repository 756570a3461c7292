"""The three routes that clients of the reference know."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import anyio
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from hy3dgen.service.job import Job
from hy3dgen.service.problems import BAD_MESH, CANCELLED, MALFORMED, NOT_AVAILABLE, STOPPING, Problem, ServiceError
from hy3dgen.service.requests import JobRequest, Upload
from hy3dgen.service.rest.answers import documented
from hy3dgen.service.rest.schemas import ReferenceRequest, ReferenceStatus, Uid
from hy3dgen.service.rest.v1 import FILES_GONE, Uploads, binary, client_of, result_file
from hy3dgen.service.service import Service

LOOK_S = 1.0


def make_router(service: Service) -> APIRouter:
    """The routes over ``service``."""
    router = APIRouter(tags=["reference"])
    uploads = Uploads()

    @router.post(
        "/generate",
        response_class=Response,
        responses={
            **binary("model/gltf-binary", "the file; the media type is the format's"),
            **documented(409, 422, 429, 500, 507),
        },
        summary="Make and wait",
    )
    async def generate(request: Request, body: ReferenceRequest) -> Response:
        """Make a mesh and answer it. When the client hangs up, the job is cancelled."""
        job = await uploads.work(service.submit, _as_job(body, client_of(request)))
        finished = await _wait(service, request, job["id"])
        _ensure_done(finished)
        return result_file(service, finished, body.type)

    @router.post("/send", response_model=Uid, responses=documented(422, 429, 500, 507), summary="Make, ask later")
    async def send(request: Request, body: ReferenceRequest) -> Any:
        """Put a job into the queue; GET /status/{uid} has the result later."""
        job = await uploads.work(service.submit, _as_job(body, client_of(request)))
        return JSONResponse({"uid": job["id"]})

    @router.get(
        "/status/{uid}",
        response_model=ReferenceStatus,
        responses=documented(404, 409, 422, 500, 507),
        summary="Ask for the result",
    )
    def status(uid: str) -> Any:
        """Processing, or completed with the file; the problem when the job has failed."""
        job = service.find(uid)
        if not job.is_final:
            return JSONResponse({"status": "processing"})
        _ensure_done(job)
        try:
            content = service.storage.result(uid, job.formats[-1]).read_bytes()
        except FileNotFoundError as error:
            raise ServiceError(NOT_AVAILABLE, FILES_GONE) from error
        return JSONResponse({"status": "completed", "model_base64": base64.b64encode(content).decode("ascii")})

    return router


def _as_job(body: ReferenceRequest, client: str) -> JobRequest:
    """Our request for the reference's."""
    uploads = []
    if body.image is not None:
        uploads.append(Upload("front", _decoded("image", body.image)))
    if body.mesh is not None:
        mesh = _decoded("mesh", body.mesh)
        if mesh[:4] != b"glTF":
            raise ServiceError(BAD_MESH, "mesh is no GLB; this route takes meshes as base64 of a GLB")
        uploads.append(Upload("mesh", mesh, ".glb"))
    coloured = body.texture if body.texture is not None else body.mesh is not None
    options = {
        "seed": body.seed,
        "octree_resolution": body.octree_resolution,
        "steps": body.num_inference_steps,
        "guidance": body.guidance_scale,
        "faces": body.face_count,
        "texture": "auto" if coloured else "none",
    }
    return JobRequest(client=client, uploads=uploads, text=body.text, options=options, formats=(body.type,))


def _decoded(field: str, text: str) -> bytes:
    """Bytes from base64, with or without the head of a data: URL."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        blamed = [{"field": field, "detail": str(error)}]
        raise ServiceError(MALFORMED, f"{field} is not base64: {error}", blamed) from error


async def _wait(service: Service, request: Request, job: str) -> Job:
    """The job once it has ended; it is cancelled when nobody waits for it any more."""
    with service.bus.listening(job) as subscription:
        while True:
            found = await anyio.to_thread.run_sync(service.find, job)
            if found.is_final:
                return found
            if service.is_stopping():
                raise ServiceError(STOPPING, "the server is shutting down; the job goes on when it starts again")
            await subscription.next(LOOK_S)
            if await request.is_disconnected():
                await anyio.to_thread.run_sync(service.cancel, job)
                raise ServiceError(CANCELLED, "the client has hung up")


def _ensure_done(job: Job) -> None:
    """Raise what a job that was not done ended with."""
    if job.status == "cancelled":
        raise ServiceError(CANCELLED, "the job was cancelled")
    if job.problem is not None:
        problem = Problem.from_dict(job.problem)
        raise ServiceError(problem.kind, problem.detail, problem.errors)
