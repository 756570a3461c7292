"""The application: routes, guards and error answers around one service, and a folder of pages when there is one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import hy3dgen
from hy3dgen.service.rest import reference, v1
from hy3dgen.service.rest.answers import add_handlers
from hy3dgen.service.rest.guard import Access, Guard, is_route
from hy3dgen.service.rest.schemas import Health
from hy3dgen.service.service import Service

CUTOUT_HEADERS = ("Cutout-Method", "Cutout-Width", "Cutout-Height", "Cutout-Warning")
DESCRIPTION = "Pictures to textured 3D meshes. docs/rest-api.md explains the same in words."


def create_app(service: Service, *, access: Access | None = None, page: Path | None = None) -> FastAPI:
    """The application. It starts the service when it starts, and stops it when it ends.

    page: a folder of static files to serve at / (index.html for the folder itself); they need no token
    """
    access = access or Access()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.stop()

    # The pages that show the document would load scripts from elsewhere.
    app = FastAPI(
        title="hy3dgen", version=hy3dgen.__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    app.state.access, app.state.service = access, service
    add_handlers(app)
    app.include_router(v1.make_router(service))
    app.include_router(reference.make_router(service))

    @app.get("/health", response_model=Health, tags=["server"], summary="Is it there")
    def health() -> Any:
        return JSONResponse({"status": "ok"})

    if page is not None:
        app.router.routes.append(_Page("/", StaticFiles(directory=page, html=True), name="page"))
    app.add_middleware(Guard, access=access, limits=service.limits)
    if access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(access.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Last-Event-ID"],
            expose_headers=["Location", "Retry-After", *CUTOUT_HEADERS],
        )
    _describe_security(app, access)
    return app


class _Page(Mount):
    """A folder at / that leaves the routes alone: it would answer for the methods that they do not take."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return (Match.NONE, {}) if is_route(scope["path"]) else super().matches(scope)


def _describe_security(app: FastAPI, access: Access) -> None:
    """Say in the OpenAPI document that a token is needed, when one is."""
    if access.token is None:
        return
    make = app.openapi

    def with_token() -> dict[str, Any]:
        document = make()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path == "/health" else [{"token": []}]
        return document

    app.openapi = with_token  # type: ignore[method-assign]
