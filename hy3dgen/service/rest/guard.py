"""What every request passes before any route sees it: where it comes from, whether it may, and how much it sends."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hy3dgen.service import problems
from hy3dgen.service.problems import Problem
from hy3dgen.service.rest.answers import RefusedError, problem_response
from hy3dgen.service.settings import Limits

OPEN_PATHS = frozenset({"/health", "/openapi.json"})
GUARDED = ("/v1", "/generate", "/send", "/status")
ENDLESS = "/events"
# No frame on another site's page, no guessing of types, no address in a Referer; old files only after asking.
POLITE = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
ASK_FIRST = (b"cache-control", b"no-cache")
BODY_PAUSE_S = 30.0
LEAST_IN_PAUSE = 30 << 10  # bytes that must come in such a time: the slowest modem brings more
READ_AWAY, READ_AWAY_S = 4, 20.0


@dataclass(frozen=True)
class Access:
    """Who may ask.

    token: that must come with every request, None for none; hosts: names by which the server may be addressed, empty
    for any; origins: of web pages on other servers that may use this one
    """

    token: str | None = None
    hosts: frozenset[str] = frozenset()
    origins: Sequence[str] = ()


class Guard:
    """ASGI middleware. Counts the bytes of all bodies that are being received."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits) -> None:
        self._app, self._access, self._limits = app, access, limits
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = self._refusal(scope)
        if problem is not None:
            await _read_away(receive, self._patience(Headers(scope=scope)))
            await problem_response(problem)(scope, receive, _polite(send))
            return
        if scope["method"] == "HEAD" and is_route(scope["path"]) and not scope["path"].endswith(ENDLESS):
            scope = {**scope, "method": "GET"}  # the server leaves the content out
        body = _Body(receive, self, self._limits.body_bytes)
        try:
            await self._app(scope, body.receive, _polite(send))
        except RefusedError as refused:  # from something that is no route, such as a folder of files
            await problem_response(refused.problem, refused.headers)(scope, receive, _polite(send))
        finally:
            self._in_flight -= body.received

    def _patience(self, headers: Headers) -> int:
        """Bytes of a refused body to read all the same; 0 where that would be more than anybody sends by mistake."""
        length = headers.get("content-length", "0")
        most = READ_AWAY * self._limits.body_bytes
        return most if length.isdigit() and int(length) <= most else 0

    def take(self, size: int) -> None:
        """Count bytes that have come; raises when too many are on their way at once."""
        if self._in_flight + size > self._limits.bytes_in_flight:
            detail = "the server is receiving too much at once; try again in a moment"
            raise RefusedError(Problem(problems.BUSY, detail))
        self._in_flight += size

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        if self._access.hosts and _host_of(headers.get("host", "")) not in self._access.hosts:
            detail = "this server does not go by that name; its owner can allow it with --allow-host"
            return Problem(problems.MALFORMED, detail)
        if method not in ("GET", "HEAD", "OPTIONS") and self._is_foreign(headers):
            return Problem(problems.MALFORMED, "requests from pages of other servers are not taken")
        if path.startswith(GUARDED) and path not in OPEN_PATHS and method != "OPTIONS" and not self._knows(headers):
            return Problem(problems.UNAUTHORIZED, "send the header 'Authorization: Bearer TOKEN'")
        if headers.get("content-encoding", "identity").lower() != "identity":
            return Problem(problems.UNSUPPORTED_TYPE, "compressed bodies are not taken; send the body as it is")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._limits.body_bytes:
            return Problem(problems.TOO_LARGE, _too_large(self._limits.body_bytes))
        return None

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser says that a page of another server sends this."""
        origin = headers.get("origin")
        if origin is None or origin in self._access.origins:
            return False
        return origin == "null" or urlsplit(origin).netloc.lower() != headers.get("host", "").lower()

    def _knows(self, headers: Headers) -> bool:
        if self._access.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self._access.token.encode())
        return scheme.lower() == "bearer" and right


class _Body:
    """The body of one request, counted as it comes."""

    def __init__(self, receive: Receive, guard: Guard, most: int) -> None:
        self._receive, self._guard, self._most = receive, guard, most
        self._complete = False
        self._waited_s, self._lately = 0.0, 0
        self.received = 0

    async def receive(self) -> Message:
        if self._complete:  # what comes now is only that the client hangs up, and that may take long
            return await self._receive()
        started = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_PAUSE_S)
        except TimeoutError as error:
            raise _too_slow() from error
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        more = message.get("more_body", False)
        if more:
            self._ensure_pace(size, time.monotonic() - started)
        if self.received + size > self._most:
            await _read_away(self._receive, READ_AWAY * self._most if more else 0)
            raise RefusedError(Problem(problems.TOO_LARGE, _too_large(self._most)))
        self._guard.take(size)
        self.received += size
        self._complete = not more
        return message

    def _ensure_pace(self, size: int, waited_s: float) -> None:
        """Who sends a byte now and then would hold the connection, and what has come so far, for days."""
        self._waited_s += waited_s
        self._lately += size
        if self._waited_s > BODY_PAUSE_S:
            if self._lately < LEAST_IN_PAUSE:
                raise _too_slow()
            self._waited_s, self._lately = 0.0, 0


async def _read_away(receive: Receive, most: int) -> None:
    """Read the rest of a refused body, up to ``most`` bytes: who is cut off while sending never sees the answer."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READ_AWAY_S):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _polite(send: Send) -> Send:
    """Answers with the headers that tell browsers what not to do."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [*message["headers"], *POLITE]
            own = any(name.lower() == ASK_FIRST[0] for name, _ in given)
            message["headers"] = given if own else [*given, ASK_FIRST]
        await send(message)

    return wrapped


def is_route(path: str) -> bool:
    """Whether this is the API's, and no page's."""
    return path in OPEN_PATHS or path.startswith(GUARDED)


def _host_of(header: str) -> str:
    """The name in a Host header, without the port."""
    return (urlsplit(f"//{header}").hostname or "").lower()


def _too_slow() -> RefusedError:
    return RefusedError(Problem(problems.TIMEOUT, "the body of the request came too slowly"))


def _too_large(most: int) -> str:
    return f"the body of a request may have {most / (1 << 20):.0f} MiB at most; make the files smaller"
