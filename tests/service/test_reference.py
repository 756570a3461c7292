"""A client as people have written them against the reference's three routes: urllib, base64, nothing else."""

from __future__ import annotations

import base64
import json
import struct
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.service.conftest import PICTURE, Client, until

IMAGE = base64.b64encode(PICTURE).decode()
# A triangle with its buffer inside.
_CORNERS = base64.b64encode(struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)).decode()


def triangle() -> str:
    from tests.service.test_hostile import glb_of, gltf

    return base64.b64encode(glb_of(gltf(f"data:application/octet-stream;base64,{_CORNERS}"))).decode()


def post(server: Client, path: str, **body: Any) -> tuple[int, str, bytes]:
    request = urllib.request.Request(
        server.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_generate_answers_the_file(server: Client) -> None:
    # What the reference's clients send, fields of its own that we do not know among them.
    status, kind, content = post(
        server, "/generate", image=IMAGE, seed=1234, octree_resolution=128, num_inference_steps=5, guidance_scale=5.0,
        texture=False, face_count=40000, type="glb", mc_algo="mc",
    )  # fmt: skip
    assert (status, kind, content[:4]) == (200, "model/gltf-binary", b"glTF")
    [job] = server("GET", "/v1/jobs?limit=1").json()["jobs"]
    assert job["options"] == {
        "seed": 1234, "octree_resolution": 128, "steps": 5, "guidance": 5.0, "texture": "none", "faces": 40000,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["obj", "ply", "stl"])
def test_generate_in_another_type(server: Client, kind: str) -> None:
    assert post(server, "/generate", image=IMAGE, type=kind)[0] == 200
    [job] = server("GET", "/v1/jobs?limit=1").json()["jobs"]
    assert job["formats"] == ["glb", kind]


def test_a_mesh_is_coloured_and_its_picture_may_be_a_data_url(server: Client) -> None:
    assert post(server, "/generate", image=f"data:image/png;base64,{IMAGE}", mesh=triangle())[0] == 200
    [job] = server("GET", "/v1/jobs?limit=1").json()["jobs"]
    assert job["kind"] == "mesh"
    assert job["options"]["texture"] == "auto"


def test_send_and_ask_until_it_is_completed(server: Client) -> None:
    _, _, content = post(server, "/send", image=IMAGE, texture=True)
    uid = json.loads(content)["uid"]
    while True:
        with urllib.request.urlopen(f"{server.base}/status/{uid}", timeout=60) as answer:
            state = json.loads(answer.read())
        if state["status"] == "completed":
            break
        assert state == {"status": "processing"}
        time.sleep(0.05)
    assert base64.b64decode(state["model_base64"])[:4] == b"glTF"


def test_wrong_requests_are_told_apart(server: Client) -> None:
    for body, status, code in (
        ({}, 422, "bad-request"),
        ({"image": "not base64!"}, 400, "malformed"),
        ({"image": base64.b64encode(b"no picture").decode()}, 422, "bad-picture"),
        ({"image": IMAGE, "mesh": IMAGE}, 422, "bad-mesh"),
        ({"image": IMAGE, "octree_resolution": 5000}, 422, "bad-request"),
        ({"image": IMAGE, "type": "fbx"}, 422, "bad-request"),
        ({"text": "a car"}, 422, "feature-unavailable"),
    ):
        answer = post(server, "/generate", **body)
        assert (answer[0], answer[1], json.loads(answer[2])["code"]) == (status, "application/problem+json", code)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.base}/status/{'0' * 32}", timeout=60)
    assert refused.value.code == 404
    refused.value.close()


def test_a_job_is_cancelled_when_the_client_of_generate_hangs_up(server: Client) -> None:
    import socket

    host, port = server.base.removeprefix("http://").split(":")
    before = {job["id"] for job in server("GET", "/v1/jobs?limit=200").json()["jobs"]}
    blocker = server.make("slow").json()
    body = json.dumps({"image": IMAGE}).encode()
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        head = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        raw.sendall(b"POST /generate HTTP/1.1\r\n" + head.encode() + body)

        def new() -> list[str]:
            found = {job["id"] for job in server("GET", "/v1/jobs?limit=200").json()["jobs"]}
            return list(found - before - {blocker["id"]})

        [job] = until(new)
    assert server.wait(job)["status"] == "cancelled"
    server("POST", blocker["links"]["cancel"])


def test_the_failure_of_a_job_is_the_answer_of_its_status(server: Client) -> None:
    job = server.make("nothing").json()["id"]
    server.wait(job)
    answer = server("GET", f"/status/{job}")
    assert (answer.status_code, answer.json()["code"]) == (422, "no-surface")
