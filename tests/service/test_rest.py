"""The routes as a client sees them."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import anyio
import numpy as np
import pytest
import requests
from PIL import Image

from hy3dgen.service.rest import v1
from hy3dgen.service.rest.guard import Access
from hy3dgen.service.settings import Limits, RunnerSettings
from tests.service.conftest import PICTURE, Client, picture_bytes, serving, settings_for, until


def is_problem(answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """A problem document that is what it should be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:hy3dgen:problem:{code}"
    assert document["detail"]
    return document


def events(client: Client, job: str, **headers: str) -> Iterator[tuple[str, str, Any]]:
    """(event, id, data) of a stream until it ends."""
    with client("GET", f"/v1/jobs/{job}/events", stream=True, headers=headers) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields.get("event"):
                yield fields["event"], fields["id"], json.loads(fields["data"])
                fields = {}


def test_a_job_from_upload_to_download(server: Client) -> None:
    answer = server.make("tea pot", seed=7, formats="obj, stl")
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["Location"] == job["links"]["self"]
    assert job["options"] == {"seed": 7}
    assert job["formats"] == ["glb", "obj", "stl"]
    done = server.wait(job["id"])
    assert done["status"] == "done"
    for entry in done["result"]["files"].values():
        download = server("GET", entry["url"])
        assert download.status_code == 200
        assert len(download.content) == entry["bytes"]
        assert download.headers["X-Content-Type-Options"] == "nosniff"
    assert download.headers["Content-Disposition"] == "attachment; filename*=utf-8''tea%20pot.stl"
    for part, kind in {"mesh": "model/gltf-binary", "preview": "image/png", "cutout": "image/png"}.items():
        assert server("GET", done["links"][part]).headers["Content-Type"] == kind
    assert server("GET", done["links"]["report"]).json() == {"schema": 1}
    is_problem(server("GET", f"{done['links']['result']}?format=ply"), 409, "not-available")
    is_problem(server("GET", f"{done['links']['cutout']}?view=left"), 409, "not-available")
    assert server("DELETE", done["links"]["self"]).status_code == 204
    is_problem(server("GET", done["links"]["self"]), 404, "not-found")


def test_events_tell_the_whole_story(server: Client) -> None:
    job = server.make("brief").json()["id"]
    seen = list(events(server, job))
    names = [event for event, _, _ in seen]
    assert names[0] == "job"
    assert names[-1] == "end"
    assert {"progress", "mesh"} <= set(names)
    last = seen[-1][2]
    assert last == server.job(job)
    assert seen[-1][1] == "end"
    fractions = [data["fraction"] for event, _, data in seen if event == "progress"]
    assert fractions == sorted(fractions)
    # EventSource connects again with the last id it saw; 204 tells it to stop.
    assert server("GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": "end"}).status_code == 204
    again = list(events(server, job))
    assert [event for event, _, _ in again] == ["job", "mesh", "end"]


def test_a_silent_stream_says_every_15_s_that_it_lives() -> None:
    """Proxies close a connection on which nothing comes."""
    passed_s, quiet = 0.0, [True] * 20 + [False] + [True] * 29

    async def following(timeout_s: float) -> list[tuple[int, str, Any]]:
        nonlocal passed_s
        passed_s += timeout_s
        return [] if quiet.pop(0) else [(1, "progress", {})]

    subscription = SimpleNamespace(next=following)
    service = SimpleNamespace(
        bus=SimpleNamespace(listening=lambda job: contextlib.nullcontext(subscription)),
        get=lambda job: {"mesh_ready": False, "finished_at": None},
        is_stopping=lambda: not quiet,
    )

    async def comments_at() -> list[float]:
        return [passed_s async for text in v1._events(service, "job") if text.startswith(":")]  # type: ignore[arg-type]

    assert anyio.run(comments_at) == [15.0, 36.0], "every 15 s since the last word"


def test_the_shape_can_be_fetched_while_the_job_runs_and_the_rest_not_yet(server: Client) -> None:
    job = server.make("slow").json()
    for event, _, data in events(server, job["id"]):
        if event == "mesh":
            assert server("GET", data["url"]).content[:4] == b"glTF"
            for part in ("result", "preview", "report", "cutout"):
                is_problem(server("GET", job["links"][part]), 409, "not-ready")
            assert server("POST", job["links"]["cancel"]).status_code == 202
    assert server.job(job["id"])["status"] == "cancelled"
    is_problem(server("GET", job["links"]["result"]), 409, "not-available")
    is_problem(server("POST", job["links"]["cancel"]), 409, "already-finished")


def test_waiting_jobs_hear_of_their_place(server: Client) -> None:
    blocker, waiting = server.make("slow").json(), server.make("quick").json()
    places = []
    for event, _, data in events(server, waiting["id"]):
        if event == "job":
            places.append(data["queue"])
            server("POST", blocker["links"]["cancel"])
    assert places[0]["position"] == 1
    assert server.job(waiting["id"])["status"] == "done"


def test_history_pages_and_filters(server: Client) -> None:
    names = [server.wait(server.make(f"quick-{n}").json()["id"])["name"] for n in range(3)]
    first = server("GET", "/v1/jobs?limit=2&status=done").json()
    assert [job["name"] for job in first["jobs"]] == names[:0:-1]
    second = server("GET", f"/v1/jobs?limit=2&status=done&before={first['next']}").json()
    assert second["jobs"][0]["name"] == names[0]
    assert all(job["status"] == "failed" for job in server("GET", "/v1/jobs?status=failed").json()["jobs"])
    is_problem(server("GET", "/v1/jobs?limit=0"), 422, "bad-request")


def test_several_views_words_and_a_mesh_make_different_kinds(server: Client) -> None:
    files = {view: ("p.png", PICTURE) for view in ("front", "left", "back")}
    job = server("POST", "/v1/jobs", files=files, data={"name": "quick"}).json()
    assert (job["kind"], [i["role"] for i in job["inputs"]]) == ("views", ["front", "left", "back"])
    corners = b"vertex 0 0 0\nvertex 1 0 0\nvertex 0 1 0\n"
    stl = b"solid t\nfacet normal 0 0 1\nouter loop\n" + corners + b"endloop\nendfacet\nendsolid t\n"
    files = {"image": ("p.png", PICTURE), "mesh": ("box.stl", stl)}
    job = server("POST", "/v1/jobs", files=files).json()
    assert (job["kind"], job["name"], job["inputs"][1]["faces"]) == ("mesh", "box", 1)
    problem = is_problem(server("POST", "/v1/jobs", data={"text": "a red car"}), 422, "feature-unavailable")
    assert "hf download" in problem["detail"]


@pytest.mark.parametrize(
    ("fields", "blamed", "words"),
    [
        ({"steps": "0"}, "steps", "1"),
        ({"steps": "many"}, "steps", "integer"),
        ({"octree_resolution": "513"}, "octree_resolution", "512"),
        ({"texture": "gold"}, "texture", "project"),
        ({"vram": "-1"}, "vram", "GiB"),
        ({"allow_lossy": "magic"}, "allow_lossy", "flashvdm"),
        ({"formats": "fbx"}, "formats", "glb"),
        ({"colour": "red"}, "colour", "not permitted"),
        ({"device": "cpu"}, "device", "not permitted"),
        ({"offline": "false"}, "offline", "not permitted"),
        ({"text": "a car"}, "text", "not both"),
    ],
)
def test_a_wrong_field_is_named(server: Client, fields: dict[str, str], blamed: str, words: str) -> None:
    problem = is_problem(server.make(**fields), 422, "bad-request")
    assert blamed in [error["field"] for error in problem["errors"]]
    assert words in problem["detail"]


def test_missing_inputs_are_named(server: Client) -> None:
    is_problem(server("POST", "/v1/jobs", data={"seed": "1"}), 422, "bad-request")
    problem = is_problem(server("POST", "/v1/jobs", files={"left": ("p.png", PICTURE)}), 422, "bad-request")
    assert problem["errors"][0]["field"] == "front"
    is_problem(server("POST", "/v1/jobs", files={"image": ("p.png", b"")}), 422, "bad-request")


def test_only_models_that_are_here_and_never_a_folder_or_a_hub(server: Client) -> None:
    for model in ("2", "paint", "/etc", "../nano", "somebody/something", "~"):
        problem = is_problem(server.make(model=model), 422, "feature-unavailable")
        assert "nano" in problem["detail"] or "weights get" in problem["detail"]
    is_problem(server.make(texture="paint"), 422, "feature-unavailable")
    assert server.make(model="nano").status_code == 202


def test_the_cut_out_is_shown_before_a_job_is_made(server: Client) -> None:
    photo = Image.new("RGB", (96, 96), "white")
    photo.paste((180, 20, 20), (30, 30, 70, 70))
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    answer = server("POST", "/v1/cutout", files={"image": ("p.png", buffer.getvalue())}, data={"max_image_size": 64})
    assert answer.headers["Content-Type"] == "image/png"
    cut = Image.open(io.BytesIO(answer.content))
    assert cut.mode == "RGBA"
    assert cut.size == (64, 64) == (int(answer.headers["Cutout-Width"]), int(answer.headers["Cutout-Height"]))
    alpha = np.asarray(cut.getchannel("A"))
    assert alpha[32, 32] == 255
    assert alpha[2, 2] == 0
    if answer.headers["Cutout-Method"] == "grabcut":
        assert "background" in unquote(answer.headers["Cutout-Warning"])
    is_problem(server("POST", "/v1/cutout", files={"image": ("p.png", b"no picture")}), 422, "bad-picture")
    is_problem(server("POST", "/v1/cutout"), 422, "bad-request")


def test_the_server_describes_itself(server: Client) -> None:
    facts = until(lambda: (found := server("GET", "/v1/server").json())["status"] == "ready" and found)
    assert facts["devices"][0]["name"] == "a stand-in"
    assert next(model for model in facts["models"] if model["name"] == "nano")["here"]
    assert facts["features"]["picture"]
    assert facts["limits"]["options"]["steps"] == {"least": 1, "most": 200, "default": None}
    assert facts["limits"]["choices"]["texture"][0] == "auto"
    assert not facts["authentication"]
    assert server("GET", "/health").json() == {"status": "ok"}


def test_unknown_routes_methods_and_types_are_problems_too(server: Client) -> None:
    is_problem(server("GET", "/v2/jobs"), 404, "not-found")
    wrong = server("PUT", "/v1/jobs")
    is_problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["Allow"]
    is_problem(server("POST", "/v1/jobs", headers={"Content-Encoding": "gzip"}, data=b"x"), 415, "unsupported-type")
    is_problem(server("POST", "/generate", data="{", headers={"Content-Type": "application/json"}), 400, "malformed")
    bad = {"Content-Type": "multipart/form-data; boundary=x"}
    is_problem(server("POST", "/v1/jobs", data=b"--y\r\nnonsense", headers=bad), 400, "malformed")


def test_a_token_is_needed_everywhere_but_for_health_and_the_document(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<title>page</title>", encoding="utf-8")
    with serving(settings_for(tmp_path / "s"), Access(token="right"), page) as client:
        assert client("GET", "/v1/server").json()["authentication"]
        del client.session.headers["Authorization"]
        for path in ("/v1/server", "/v1/jobs", "/status/x"):
            answer = client("GET", path)
            is_problem(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for given in ("Bearer wrong", "Basic right", "right", "Bearer"):
            is_problem(client("POST", "/send", json={}, headers={"Authorization": given}), 401, "unauthorized")
        assert client("GET", "/health").ok
        assert client("GET", "/").text == "<title>page</title>"
        document = client("GET", "/openapi.json").json()
        assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"token": []}]


def test_pages_of_other_servers_cannot_use_one_that_listens_here_only(tmp_path: Path) -> None:
    """A web site may send forms to 127.0.0.1, and may point a name of its own at it."""
    access = Access(hosts=frozenset({"127.0.0.1"}), origins=("https://friend.example",))
    with serving(settings_for(tmp_path), access) as client:
        is_problem(client("GET", "/v1/jobs", headers={"Host": "evil.example"}), 400, "malformed")
        for origin in ("https://evil.example", "null"):
            answer = client("POST", "/v1/jobs", files={"image": ("p.png", PICTURE)}, headers={"Origin": origin})
            is_problem(answer, 400, "malformed")
            assert "Access-Control-Allow-Origin" not in answer.headers
        own = {"Origin": client.base}
        assert client("POST", "/v1/jobs", files={"image": ("p.png", PICTURE)}, headers=own).status_code == 202
        friend = client("GET", "/v1/server", headers={"Origin": "https://friend.example"})
        assert friend.headers["Access-Control-Allow-Origin"] == "https://friend.example"


def test_cors_is_off(server: Client) -> None:
    answer = server("GET", "/v1/server", headers={"Origin": "https://friend.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_a_ceiling_of_the_server_is_not_exceeded(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, runner=RunnerSettings(vram="4"))) as client:
        is_problem(client.make(vram="6"), 422, "bad-request")
        assert client.make(vram="2").json()["options"]["vram"] == "2"
        assert client.make(vram="max").json()["options"]["vram"] == "4"


def test_a_hundred_clients_at_once(server: Client) -> None:
    """Nobody is left without an answer: every job is made, or refused with a problem that says when to come again."""

    def one(number: int) -> str:
        own = Client(server.base)
        answer = own.make(f"quick-{number}")
        if answer.status_code == 202:
            return own.wait(answer.json()["id"])["status"]
        problem = is_problem(answer, 429, "too-many-jobs")
        assert int(answer.headers["Retry-After"]) > 0
        return problem["code"]

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(one, range(100)))
    assert set(answers) <= {"done", "too-many-jobs"}
    assert answers.count("done") >= 20


def test_a_hundred_clients_of_a_server_that_lets_them(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, limits=Limits(queue=200, queue_per_client=200))) as client:

        def one(number: int) -> str:
            own = Client(client.base)
            return own.wait(own.make(f"quick-{number}").json()["id"])["status"]

        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(one, range(100)))
        assert answers == ["done"] * 100


def test_an_obj_is_a_zip_that_is_the_same_for_the_same_mesh() -> None:
    from hy3dgen.service.runner import _pack

    files = {"a.obj": b"o a\n" * 100, "a.mtl": b"newmtl\n", "a_texture.png": picture_bytes()}
    packed = _pack(files)
    assert packed == _pack(files)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
