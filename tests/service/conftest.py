"""Servers with stand-in workers, and small inputs."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from hy3dgen.service.requests import JobRequest, Upload
from hy3dgen.service.rest.app import create_app
from hy3dgen.service.rest.guard import Access
from hy3dgen.service.rest.server import Server
from hy3dgen.service.service import Service
from hy3dgen.service.settings import ServiceSettings
from tests.service.stand_ins import make_stand_in

FINAL = ("done", "failed", "cancelled")


def picture_bytes(size: int = 32) -> bytes:
    """A red disc on nothing, PNG."""
    y, x = np.mgrid[:size, :size] - size / 2
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[x * x + y * y < (size / 3) ** 2] = (200, 30, 30, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = picture_bytes()


class Client:
    """The API as a small client would use it."""

    def __init__(self, base: str, token: str | None = None) -> None:
        self.base = base
        self.session = requests.Session()
        if token is not None:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=60, **more)

    def make(self, name: str = "quick", picture: bytes = PICTURE, **fields: Any) -> requests.Response:
        return self("POST", "/v1/jobs", files={"image": ("p.png", picture)}, data={"name": name, **fields})

    def job(self, identity: str) -> dict[str, Any]:
        return self("GET", f"/v1/jobs/{identity}").json()

    def wait(self, identity: str, *statuses: str, timeout_s: float = 150) -> dict[str, Any]:
        """The job once it has one of these statuses, by default a final one."""
        return until(lambda: (job := self.job(identity))["status"] in (statuses or FINAL) and job, timeout_s)


def until(condition: Callable[[], Any], timeout_s: float = 150) -> Any:
    """What ``condition`` answers as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@contextmanager
def serving(
    settings: ServiceSettings, access: Access | None = None, page: Path | None = None, port: int = 0
) -> Iterator[Client]:
    """A server in a thread of this process. port: 0 for a free one"""
    listener = socket.create_server(("127.0.0.1", port))
    app = create_app(Service(settings), access=access, page=page)
    server = Server(app, log_level="error")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        client = Client(f"http://127.0.0.1:{listener.getsockname()[1]}", access.token if access else None)
        client.service = app.state.service  # type: ignore[attr-defined]
        yield client
    finally:
        server.should_exit = True
        thread.join(60)
        listener.close()


def settings_for(folder: Path, **more: Any) -> ServiceSettings:
    return ServiceSettings(folder=folder, **{"make_runner": make_stand_in, **more})


def request_for(name: str = "quick", client: str = "somebody", **more: Any) -> JobRequest:
    return JobRequest(client=client, uploads=[Upload("front", PICTURE)], name=name, **more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """One server for the tests of a file; they leave nothing running."""
    with serving(settings_for(tmp_path_factory.mktemp("service"))) as client:
        yield client
