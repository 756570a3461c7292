"""Problems as HTTP answers: one handler for every error, and what the OpenAPI document says of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hy3dgen.errors import Hy3dgenError
from hy3dgen.service import problems
from hy3dgen.service.problems import Kind, Problem, ServiceError, problem_of

logger = logging.getLogger(__name__)
_BY_STATUS = {
    400: problems.MALFORMED,
    404: problems.NOT_FOUND,
    405: problems.METHOD_NOT_ALLOWED,
    413: problems.TOO_LARGE,
    415: problems.UNSUPPORTED_TYPE,
}
_WORDS = {
    400: "not readable as what it should be, or a foreign Host or Origin",
    401: "the bearer token is missing or wrong",
    404: "no such job",
    408: "the body came too slowly",
    409: "the job is not, or not any more, in a state for this",
    413: "the body is over the limit",
    415: "a body with a content encoding",
    422: "wrong or missing fields, unsuitable picture or mesh, something this server does not have",
    429: "too many jobs of this client wait",
    500: "our mistake, or the worker process died",
    503: "the queue is full, or the server is shutting down",
    507: "not enough device memory or disk",
}


class RefusedError(HTTPException):
    """A problem that is found while the body is read, where frameworks let nothing else through."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail, {"Connection": "close"})
        self.problem = problem


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for a problem."""
    own = dict(headers or {})
    if problem.retry_after_s is not None:
        own["Retry-After"] = str(problem.retry_after_s)
    if problem.status == problems.UNAUTHORIZED.status:
        own["WWW-Authenticate"] = "Bearer"
    content = json.dumps(problem.as_dict(), ensure_ascii=False).encode()
    return Response(content, problem.status, own, media_type=problems.MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's OpenAPI entry says of the problems it may answer."""
    every = sorted({400, 401, 408, 413, 415, 422, 503, *statuses})
    return {
        status: {
            "description": _WORDS[status],
            "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in every
    }


def add_handlers(app: FastAPI) -> None:
    """Answer every error with a problem document."""

    async def on_ours(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status >= 500 and not isinstance(error, ServiceError):
            logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
        return problem_response(problem)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(_validation_problem(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if isinstance(error, RefusedError):
            return problem_response(error.problem, error.headers)
        kind = _BY_STATUS.get(error.status_code, Kind(error.status_code, "http-error", "The request failed"))
        detail = str(error.detail)
        if kind is problems.NOT_FOUND:
            detail = "there is no such route; /openapi.json lists them"
        return problem_response(Problem(kind, detail), error.headers)

    async def on_anything(request: Request, error: Exception) -> Response:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        detail = "an unexpected error; the server's log has the details"
        return problem_response(Problem(problems.INTERNAL, detail))

    app.add_exception_handler(Hy3dgenError, on_ours)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_anything)


def _validation_problem(error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(entry["type"] == "json_invalid" for entry in found):
        why = found[0].get("ctx", {}).get("error", "unreadable")
        return Problem(problems.MALFORMED, f"the body is not JSON: {why}")
    errors = []
    for entry in found:
        place = [str(part) for part in entry["loc"] if part not in ("body", "query", "path", "header")]
        errors.append({"field": ".".join(place) or "body", "detail": str(entry["msg"])})
    words = "; ".join(f"{entry['field']}: {entry['detail']}" for entry in errors[:5])
    return Problem(problems.BAD_REQUEST, words, errors)
