"""Connections: how the server ends while people follow jobs, and what it does with clients that hardly say anything."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from starlette.types import Message

from hy3dgen.service.rest import guard, server
from hy3dgen.service.rest.answers import RefusedError
from hy3dgen.service.rest.guard import Access, Guard
from hy3dgen.service.settings import Limits
from tests.service.conftest import Client, serving, settings_for, until

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from hy3dgen.cli.serving import _listen
from hy3dgen.service.rest.app import create_app
from hy3dgen.service.rest.server import Server
from hy3dgen.service.service import Service
from tests.service.conftest import settings_for
if __name__ == "__main__":
    listener = _listen("127.0.0.1", 0)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    try:
        Server(create_app(Service(settings_for(Path(sys.argv[1]))))).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_server_at_once_though_somebody_follows_a_job(tmp_path: Path) -> None:
    """It took five seconds and left a traceback for every page that was open; a job in work begins again later."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, env=os.environ, **pipes) as process:  # type: ignore[call-overload]
        try:
            client = Client(process.stdout.readline().strip())
            jobs = [client.make(name).json()["id"] for name in ("slow", "quick")]
            client.wait(jobs[0], "running")
            with requests.get(f"{client.base}/v1/jobs/{jobs[0]}/events", stream=True, timeout=60) as followed:
                lines = followed.iter_lines()
                assert next(lines) == b"id: 0"
                process.send_signal(signal.SIGINT)
                sent_at = time.monotonic()
                for _ in lines:  # an end in the middle of a chunk would raise
                    pass
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert errors == ""
    assert time.monotonic() - sent_at < server.GRACE_S
    with serving(settings_for(tmp_path)) as client:
        client.wait(jobs[0], "running")
        client("POST", f"/v1/jobs/{jobs[0]}/cancel")
        assert [client.wait(job)["status"] for job in jobs] == ["cancelled", "done"]


def test_who_waits_for_a_result_hears_that_the_server_ends(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path)) as client:
        host, port = client.base.removeprefix("http://").split(":")
        body = json.dumps({"mesh": None, "image": _picture_text(), "seed": 1}).encode()
        client.wait(client.make("slow").json()["id"], "running")
        connection = socket.create_connection((host, int(port)), timeout=30)
        head = f"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: client("GET", "/v1/server").json()["queue"]["waiting"] == 1)
    with closing(connection):
        answer = connection.recv(4000)
    assert b" 503 " in answer.split(b"\r\n", 1)[0]
    assert b'"code": "stopping"' in answer


def _picture_text() -> str:
    import base64

    from tests.service.conftest import PICTURE

    return base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["new", "kept"])
def test_a_request_whose_headers_never_end_loses_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """A byte now and then kept a connection for ever; some hundred of them and nobody else could connect."""
    monkeypatch.setattr(server, "HEAD_S", 0.6)
    with serving(settings_for(tmp_path)) as client:
        host, port = client.base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=0.1) as slow:
            slow.sendall(before + b"GET /health HTTP/1.1\r\n")
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                try:
                    slow.sendall(b"x")
                    if slow.recv(1000) == b"":
                        break
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            else:
                pytest.fail("the connection is still open")
        job = client.make("brief").json()["id"]  # longer than the headers may take
        with requests.get(f"{client.base}/v1/jobs/{job}/events", stream=True, timeout=60) as followed:
            assert b"event: end" in followed.content


def test_answers_leave_without_waiting_for_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body are two writes; the second waited 40 ms for the client's acknowledgement of the first."""
    delays: list[bool] = []
    connect = server.Protocol.connection_made

    def connect_and_look(protocol: server.Protocol, transport: asyncio.Transport) -> None:
        connect(protocol, transport)
        accepted = transport.get_extra_info("socket")
        delays.append(not accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(server.Protocol, "connection_made", connect_and_look)
    with serving(settings_for(tmp_path)) as client:
        assert client("GET", "/health").status_code == 200
    assert delays == [False]


def test_a_body_that_drips_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte came within the pause that is allowed, so that the body could take days."""
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.1)

    async def dripping() -> AsyncIterator[Message]:
        while True:
            await asyncio.sleep(0.01)
            yield {"type": "http.request", "body": b"x", "more_body": True}

    async def read() -> int:
        drops = dripping()
        body = guard._Body(drops.__anext__, Guard(_nothing, Access(), Limits()), 1000)  # type: ignore[arg-type]
        while True:
            await body.receive()

    with pytest.raises(RefusedError) as refused:
        asyncio.run(asyncio.wait_for(read(), 20))
    assert refused.value.problem.kind.code == "timeout"


def test_a_body_over_a_slow_line_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_PAUSE_S", 0.1)
    pieces = 40

    async def coming() -> AsyncIterator[Message]:
        for number in range(pieces):
            await asyncio.sleep(0.01)
            yield {"type": "http.request", "body": bytes(guard.LEAST_IN_PAUSE), "more_body": number + 1 < pieces}

    async def read() -> int:
        body = guard._Body(coming().__anext__, Guard(_nothing, Access(), Limits()), 1 << 30)  # type: ignore[arg-type]
        while (await body.receive())["more_body"]:
            pass
        return body.received

    assert asyncio.run(read()) == pieces * guard.LEAST_IN_PAUSE


async def _nothing(*arguments: object) -> None:
    """An application that is never asked."""
