"""Our own routes, under /v1."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import anyio
from fastapi import APIRouter, Form, Header, Query, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from hy3dgen.service.job import Job
from hy3dgen.service.problems import NOT_AVAILABLE, NOT_READY, ServiceError
from hy3dgen.service.rest.answers import documented
from hy3dgen.service.rest.forms import CutoutForm, JobForm
from hy3dgen.service.rest.schemas import Format as FormatName
from hy3dgen.service.rest.schemas import JobDocument, JobPage, ServerFacts, Status, View
from hy3dgen.service.service import Service

T = TypeVar("T")
KEEP_ALIVE_S = 15.0
STOP_LOOK_S = 1.0
FILES_GONE = "the files of this job have been removed"
# Uploads are looked at one after the other; more threads would only wait, and take them from quick requests.
AT_ONCE = 8
# One event of the stream; data is JSON as text: a JobDocument (job, end), a ProgressState, or {"url"} (mesh).
_EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["job", "progress", "mesh", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_EVENTS = {
    "text/event-stream": {"schema": _EVENT, "example": 'id: 7\nevent: mesh\ndata: {"url": "/v1/jobs/0d5c…/mesh"}\n\n'}
}


def binary(media_type: str, what: str) -> dict[int | str, dict[str, Any]]:
    """An OpenAPI entry for an answer that is a file."""
    schema = {"type": "string", "format": "binary"}
    return {200: {"description": what, "content": {media_type: {"schema": schema}}}}


def make_router(service: Service) -> APIRouter:
    """The routes over ``service``."""
    router = APIRouter(prefix="/v1", tags=["jobs"])
    uploads = Uploads()
    _add_jobs(router, service, uploads)
    _add_files(router, service)
    _add_server(router, service, uploads)
    return router


class Uploads:
    """Does what takes long with an upload in a few threads of its own."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    async def work(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._limiter is None:  # limiters belong to an event loop, which is not there when the app is made
            self._limiter = anyio.CapacityLimiter(AT_ONCE)
        return await anyio.to_thread.run_sync(partial(function, *arguments), limiter=self._limiter)


def _add_jobs(router: APIRouter, service: Service, uploads: Uploads) -> None:
    @router.post(
        "/jobs", status_code=202, response_model=JobDocument, responses=documented(422, 429, 500, 507), summary="Make"
    )
    async def create_job(request: Request, form: Annotated[JobForm, Form(media_type="multipart/form-data")]) -> Any:
        """Put a job into the queue. What is wrong with the files or options is said at once."""
        job = await uploads.work(service.submit, await form.as_request(client_of(request)))
        return JSONResponse(job, 202, {"Location": f"/v1/jobs/{job['id']}"})

    @router.get("/jobs", response_model=JobPage, responses=documented(422), summary="History")
    def list_jobs(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str | None, Query(description="'next' of the page before")] = None,
        status: Annotated[list[Status] | None, Query()] = None,
    ) -> Any:
        """Jobs, newest first."""
        return JSONResponse(service.history(limit, before, status or ()))

    @router.get("/jobs/{id}", response_model=JobDocument, responses=documented(404), summary="One job")
    def get_job(id: str) -> Any:
        """A job as it is now."""
        return JSONResponse(service.get(id))

    @router.delete("/jobs/{id}", status_code=204, responses=documented(404), summary="Delete")
    def delete_job(id: str) -> Response:
        """Stop the job if it has not ended, and remove it with all its files."""
        service.delete(id)
        return Response(status_code=204)

    @router.post(
        "/jobs/{id}/cancel", status_code=202, response_model=JobDocument, responses=documented(404, 409), summary="Stop"
    )
    def cancel_job(id: str) -> Any:
        """Stop a job: at once when it waits, within one step when it runs."""
        return JSONResponse(service.cancel(id), 202)

    @router.get(
        "/jobs/{id}/events",
        response_class=StreamingResponse,
        responses={
            200: {"description": "events job, progress, mesh, end", "content": _EVENTS},
            204: {"description": "the client has seen the end already"},
            **documented(404),
        },
        summary="Progress",
    )
    async def watch_job(id: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        """Server-sent events, each with the whole state."""
        job = await anyio.to_thread.run_sync(service.get, id)
        if last_event_id == "end" and job["finished_at"] is not None:
            return Response(status_code=204)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(service, id), media_type="text/event-stream", headers=headers)


def _add_files(router: APIRouter, service: Service) -> None:
    @router.get(
        "/jobs/{id}/mesh",
        response_class=FileResponse,
        responses={**binary("model/gltf-binary", "GLB of the bare shape"), **documented(404, 409)},
        summary="The shape, before its texture",
    )
    def get_mesh(id: str) -> Response:
        """The bare shape as soon as it exists."""
        job = service.find(id)
        if not job.mesh_ready:
            raise _missing(job, "mesh")
        return _file(service.storage.shape(id), "model/gltf-binary", f"{job.name}-shape.glb")

    @router.get(
        "/jobs/{id}/result",
        response_class=FileResponse,
        responses={
            **binary("*/*", "the file; its media type is the format's"),
            **documented(404, 409, 422),
        },
        summary="The result",
    )
    def get_result(id: str, format: FormatName = "glb") -> Response:
        """The finished file."""
        job = service.find(id)
        return result_file(service, job, format)

    @router.get(
        "/jobs/{id}/preview",
        response_class=FileResponse,
        responses={**binary("image/png", "four views"), **documented(404, 409)},
        summary="Preview",
    )
    def get_preview(id: str) -> Response:
        """A picture of four views of the result."""
        job = service.find(id)
        if job.result is None or not job.result["preview"]:
            raise _missing(job, "preview")
        return _file(service.storage.preview(id), "image/png", f"{job.name}.png", inline=True)

    @router.get(
        "/jobs/{id}/cutout",
        response_class=FileResponse,
        responses={**binary("image/png", "the picture with its background removed"), **documented(404, 409, 422)},
        summary="Cut-out",
    )
    def get_cutout(id: str, view: View = "front") -> Response:
        """The picture as the model saw it."""
        job = service.find(id)
        if job.result is None or view not in job.result["cutouts"]:
            raise _missing(job, f"cut-out of the {view} view")
        return _file(service.storage.cutout(id, view), "image/png", f"{job.name}-{view}.png", inline=True)

    @router.get("/jobs/{id}/report", response_model=dict[str, Any], responses=documented(404, 409), summary="Report")
    def get_report(id: str) -> Response:
        """The report of the run, as docs/report.schema.json describes it."""
        job = service.find(id)
        if job.result is None:
            raise _missing(job, "report")
        return _file(service.storage.report(id), "application/json", f"{job.name}.json", inline=True)


def _add_server(router: APIRouter, service: Service, uploads: Uploads) -> None:
    @router.get("/server", response_model=ServerFacts, responses=documented(), summary="This server", tags=["server"])
    def get_server(request: Request) -> Any:
        """What this server is and can do."""
        return JSONResponse({**service.facts(), "authentication": request.app.state.access.token is not None})

    @router.post(
        "/cutout",
        response_class=Response,
        responses={**binary("image/png", "the picture with its background removed"), **documented(422, 500)},
        summary="Look at a cut-out before making a job",
        tags=["server"],
    )
    async def cut_out(form: Annotated[CutoutForm, Form(media_type="multipart/form-data")]) -> Response:
        """Remove the background of a picture as a job would. Does not wait behind running jobs."""
        content = await form.image.read()
        png, method, warnings, size = await uploads.work(
            service.checker.cut_out, content, form.rembg, form.max_image_size
        )
        headers = {"Cutout-Method": method, "Cutout-Width": str(size[0]), "Cutout-Height": str(size[1])}
        if warnings:
            headers["Cutout-Warning"] = quote(" ".join(warnings))
        return Response(png, media_type="image/png", headers={**headers, "Cache-Control": "no-store"})


def result_file(service: Service, job: Job, kind: str) -> Response:
    """The finished file in one format. Raises ServiceError when it is not there."""
    if job.result is None or kind not in job.result["files"]:
        raise _missing(job, f"{kind} file")
    facts = job.result["files"][kind]
    return _file(service.storage.result(job.id, kind), facts["media_type"], facts["filename"])


def client_of(request: Request) -> str:
    """Whose turn a request takes in the queue."""
    return request.client.host if request.client is not None else "unknown"


def _missing(job: Job, what: str) -> ServiceError:
    if job.is_final:
        how = "it was not asked for" if job.status == "done" else f"the job is {job.status}"
        return ServiceError(NOT_AVAILABLE, f"this job has no {what}: {how}")
    return ServiceError(NOT_READY, f"there is no {what} yet: the job is {job.status}")


def _file(path: Path, media_type: str, name: str, *, inline: bool = False) -> Response:
    if not path.is_file():  # removed between looking the job up and now
        raise ServiceError(NOT_AVAILABLE, FILES_GONE)
    how = "inline" if inline else "attachment"
    return FileResponse(path, media_type=media_type, filename=name, content_disposition_type=how)


async def _events(service: Service, job: str) -> AsyncIterator[str]:
    """The stream: the state of now, then what happens, until the end."""
    with service.bus.listening(job) as subscription:
        try:
            state = await anyio.to_thread.run_sync(service.get, job)
        except ServiceError:
            return  # deleted since
        yield event_text("job", state)
        if state["mesh_ready"]:
            yield event_text("mesh", {"url": state["links"]["mesh"]})
        if state["finished_at"] is not None:
            yield event_text("end", state, "end")
            return
        silent_s = 0.0
        while not service.is_stopping():
            events = await subscription.next(STOP_LOOK_S)
            silent_s = 0.0 if events else silent_s + STOP_LOOK_S
            if silent_s >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield ": still here\n\n"
            for number, event, data in events:
                yield event_text(event, data, "end" if event == "end" else str(number))
                if event == "end":
                    return


def event_text(event: str, data: Any, identity: str = "0") -> str:
    """One server-sent event."""
    return f"id: {identity}\nevent: {event}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
