"""What answers say beside their content, and which methods routes take, with a page on the same server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hy3dgen.cli.gradio_app import PAGE
from tests.service.conftest import Client, serving, settings_for
from tests.service.test_rest import is_problem


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(settings_for(tmp_path_factory.mktemp("service")), page=PAGE) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/js/main.js", "/v1/server", "/health", "/nothing"])
def test_no_other_site_can_frame_the_page_and_browsers_ask_before_they_use_an_old_file(
    paged: Client, path: str
) -> None:
    """A page in a frame of another site could be clicked unseen; scripts of two versions could meet in one page."""
    headers = paged("GET", path).headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-cache"


def test_what_must_not_be_kept_still_is_not(paged: Client) -> None:
    job = paged.wait(paged.make().json()["id"])
    with paged("GET", f"{job['links']['events']}", stream=True) as events:
        assert events.headers["cache-control"] == "no-store"


def test_an_unchanged_file_is_not_sent_again(paged: Client) -> None:
    tag = paged("GET", "/js/main.js").headers["etag"]
    assert paged("GET", "/js/main.js", headers={"If-None-Match": tag}).status_code == 304


def test_the_page_hides_no_route_from_methods_that_it_does_not_take(paged: Client) -> None:
    """The folder of files answered for them: 404 to HEAD, and 405 with its own methods."""
    for path in ("/v1/server", "/health", "/openapi.json"):
        found = paged("HEAD", path)
        assert (found.status_code, found.content) == (200, b""), path
        assert found.headers["content-type"] == "application/json"
    job = paged.wait(paged.make().json()["id"])
    found = paged("HEAD", f"/v1/jobs/{job['id']}/result")
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-length"] == str(job["result"]["files"]["glb"]["bytes"])
    assert paged("HEAD", job["links"]["events"]).status_code == 405, "a stream has no end to tell of"
    for method, path, allowed in (
        ("PUT", "/v1/jobs", {"GET", "POST"}),
        ("POST", "/v1/server", {"GET"}),
        ("GET", "/generate", {"POST"}),
        ("OPTIONS", "/v1/cutout", {"POST"}),
    ):
        answer = paged(method, path)
        is_problem(answer, 405, "method-not-allowed")
        assert set(answer.headers["allow"].split(", ")) <= allowed, (method, path)
    is_problem(paged("GET", "/v1/nothing"), 404, "not-found")
    assert paged("HEAD", "/").status_code == 200
