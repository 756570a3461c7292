"""uvicorn as we run it: answers at once, ends quickly when told to, and does not wait for ever for a silent client."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.auto import AutoHTTPProtocol

GRACE_S = 5
HEAD_S = 30.0  # from the first byte of a request, or from the connection, to the end of its headers

_Base: Any = AutoHTTPProtocol


class Protocol(_Base):
    """A connection that sends without delay, and is closed when a request's headers do not come in time.

    uvicorn would keep it for as long as one byte comes now and then, until there are no connections left for others.
    """

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        _send_without_delay(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        self._wait()
        super().data_received(data)
        if not self._is_between_requests():
            self._stop_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(error)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        if self._clock is None and self._is_between_requests():
            self._clock = asyncio.get_running_loop().call_later(HEAD_S, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _hang_up(self) -> None:
        self._clock = None
        if self._is_between_requests():
            self.transport.close()


def _send_without_delay(transport: asyncio.Transport) -> None:
    """Let the second piece of an answer leave before the client has acknowledged the first, which it does after 40 ms.

    asyncio does this itself only where the listening socket was made with IPPROTO_TCP; socket.socket() leaves that out.
    """
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):  # some systems refuse when the client has gone already
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Server(uvicorn.Server):
    """Tells the service at the first signal that the end has come: whoever follows a job would hold the server up."""

    def __init__(self, app: FastAPI, *, log_level: str = "warning") -> None:
        config = uvicorn.Config(
            app, http=Protocol, log_level=log_level, access_log=False, timeout_graceful_shutdown=GRACE_S,
            server_header=False, ws="none",
        )  # fmt: skip
        super().__init__(config)
        self._service = app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.announce_stop()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.announce_stop()  # whoever runs us may end us without a signal
        await super().shutdown(sockets)
