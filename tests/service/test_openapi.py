"""The OpenAPI document: complete, with examples, and kept by the server whatever is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from hy3dgen.service.problems import KINDS
from hy3dgen.service.rest.app import create_app
from hy3dgen.service.service import Service
from hy3dgen.service.settings import Limits
from tests.service.conftest import PICTURE, Client, serving, settings_for

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]
ROUTES = {
    "/health", "/v1/server", "/v1/cutout", "/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/cancel", "/v1/jobs/{id}/events",
    "/v1/jobs/{id}/mesh", "/v1/jobs/{id}/result", "/v1/jobs/{id}/preview", "/v1/jobs/{id}/cutout",
    "/v1/jobs/{id}/report", "/generate", "/send", "/status/{uid}",
}  # fmt: skip


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    service = Service(settings_for(tmp_path_factory.mktemp("document")))
    made = create_app(service).openapi()
    service.stop()
    return made


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    limits = Limits(queue=10_000, queue_per_client=10_000)
    with serving(settings_for(tmp_path_factory.mktemp("service"), limits=limits)) as client:
        yield client


def test_every_route_is_there_with_its_problems(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == ROUTES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"]
            if path != "/health":
                problem = operation["responses"]["401"]["content"]
                assert list(problem) == ["application/problem+json"]


def test_bodies_have_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["ReferenceRequest"]["examples"]
    assert schemas["ProblemDocument"]["example"]
    assert any("examples" in field for field in schemas["JobForm"]["properties"].values())
    assert schemas["JobDocument"]["properties"]["id"]["examples"]


def test_examples_in_the_words_are_what_the_document_says(document: dict[str, Any]) -> None:
    """docs/rest-api.md and the OpenAPI document are one contract."""
    text = (Path(__file__).parents[2] / "docs" / "rest-api.md").read_text(encoding="utf-8")
    blocks = [json.loads(part.split("```")[0]) for part in text.split("```json")[1:]]
    names = ["JobDocument", "ProgressState", "JobResult", "ServerFacts", "ProblemDocument"]
    assert len(blocks) == len(names)
    for name, block in zip(names, blocks, strict=True):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.validate(block, schema)
    for route in ROUTES:
        assert route.split("/v1/jobs/{id}/")[-1] in text


def test_every_kind_of_problem_is_in_the_words() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rest-api.md").read_text(encoding="utf-8")
    from hy3dgen.service import problems

    kinds = [value for value in vars(problems).values() if isinstance(value, problems.Kind)]
    assert set(KINDS.values()) <= set(kinds)
    missing = [kind.code for kind in kinds if f"`{kind.code}`" not in text]
    assert not missing


def test_the_server_keeps_the_document_whatever_is_sent(roomy: Client) -> None:
    """Schemathesis makes requests from the document, valid and not; bounded so that it takes seconds.

    By itself it finds no job and draws no picture, so some of its requests get real ones.
    """
    jobs = [roomy.wait(roomy.make(name).json()["id"])["id"] for name in ("quick", "nothing")]
    answered: dict[str, set[int]] = {}
    for result in schemathesis.openapi.from_url(f"{roomy.base}/openapi.json").get_all_operations():
        answered[result.ok().label] = attack(result.ok(), jobs)
    assert len(answered) >= len(ROUTES)
    without = {label for label, statuses in answered.items() if not any(status < 300 for status in statuses)}
    # Both need a job of their own each time; test_rest has them.
    assert not without - {"POST /v1/jobs/{id}/cancel", "DELETE /v1/jobs/{id}"}, (
        "a route that never succeeds is not tested"
    )


def attack(operation: Any, jobs: list[str]) -> set[int]:
    """Send a handful of requests, check every answer, and say which statuses came."""
    statuses: set[int] = set()

    @settings(
        max_examples=12,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases(operation), real=st.sampled_from([None, *jobs]))
    def send(case: Any, real: str | None) -> None:
        if real is not None:
            make_real(case, real)
        answer = case.call(timeout=60)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    send()
    return statuses


def cases(operation: Any) -> Any:
    """Requests for one operation, some that keep its schema and some that do not."""
    positive = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.path_parameters and not operation.query and not operation.body:
        return positive  # nothing that could be wrong
    return st.one_of(positive, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def make_real(case: Any, job: str) -> None:
    """Put a job that is there, and a picture that is one, into a request."""
    if case.method == "DELETE":
        return
    for name in ("id", "uid"):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = job
    if case.operation.label == "GET /v1/jobs/{id}/cutout":
        case.query = {}
    elif case.operation.label in ("POST /v1/jobs", "POST /v1/cutout"):
        case.body = {"image": PICTURE}
    elif case.operation.label in ("POST /generate", "POST /send"):
        case.body = {"image": base64.b64encode(PICTURE).decode()}
