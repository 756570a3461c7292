"""What people send who mean no good: every one is refused with a problem, and the server goes on."""

from __future__ import annotations

import base64
import http.server
import io
import itertools
import json
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from PIL import Image

from hy3dgen.errors import ImageError, MeshError
from hy3dgen.service.checks import Checker, _ran_out
from hy3dgen.service.problems import ServiceError
from hy3dgen.service.requests import checked_name
from hy3dgen.service.settings import Limits
from tests.service.conftest import PICTURE, Client, serving, settings_for
from tests.service.test_rest import is_problem


@pytest.fixture(autouse=True)
def _still_alive(server: Client) -> Iterator[None]:
    """After each attack an honest job is done."""
    yield
    assert server.wait(server.make().json()["id"])["status"] == "done"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, rows: bytes, *extra: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to width x height."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    return png_of(width, height, b"".join(packer.compress(row) for _ in range(height)) + packer.flush())


def glb_of(document: dict[str, object], binary: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def gltf(uri: str | None, count: int = 3) -> dict[str, object]:
    """One triangle whose buffer lies somewhere else."""
    buffer: dict[str, object] = {"byteLength": 36} if uri is None else {"byteLength": 36, "uri": uri}
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "buffers": [buffer],
        "bufferViews": [{"buffer": 0, "byteOffset": 0, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3"}],
    }


BOMB = bomb(12_000, 12_000)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(png_of(60_000, 60_000, zlib.compress(b"\0" * 100)), id="3.6 Gpx"),
        pytest.param(BOMB, id="144 Mpx that are there"),
        pytest.param(PICTURE[: len(PICTURE) // 2], id="truncated"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", id="SVG"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", id="EPS"),
        pytest.param(b"GIF89a" + b"\xff" * 100, id="broken GIF"),
        pytest.param(b"\0" * 1000, id="zeros"),
    ],
)
def test_pictures(server: Client, content: bytes) -> None:
    is_problem(server.make(picture=content), 422, "bad-picture")
    is_problem(server("POST", "/v1/cutout", files={"image": ("p.png", content)}), 422, "bad-picture")
    text = base64.b64encode(content).decode()
    is_problem(server("POST", "/generate", json={"image": text}), 422, "bad-picture")


def test_text_chunks_that_unpack_to_gigabytes(server: Client) -> None:
    packed = zlib.compress(b"\0" * 50_000_000, 9)
    chunk = png_chunk(b"zTXt", b"Comment\0\0" + packed)
    answer = server.make(picture=png_of(16, 16, zlib.compress(b"\0" * 17 * 16), chunk))
    is_problem(answer, 422, "bad-picture")


def test_a_zip_of_death_is_nowhere_unpacked(server: Client) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"../../{number}.obj", b"0" * 5_000_000)
    content = buffer.getvalue()
    is_problem(server.make(picture=content), 422, "bad-picture")
    for name in ("m.zip", "m.glb", "m.3mf", "m.obj", "m.stl", "m.ply"):
        files = {"image": ("p.png", PICTURE), "mesh": (name, content)}
        is_problem(server("POST", "/v1/jobs", files=files), 422, "bad-mesh")


@pytest.mark.parametrize(
    "uri", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "../../front/front", "C:\\Windows\\win.ini"]
)
def test_a_mesh_that_points_at_other_files(server: Client, uri: str) -> None:
    files = {"image": ("p.png", PICTURE), "mesh": ("m.glb", glb_of(gltf(uri)))}
    problem = is_problem(server("POST", "/v1/jobs", files=files), 422, "bad-mesh")
    assert str(server.service.storage.root) not in problem["detail"]  # type: ignore[attr-defined]


def test_no_address_is_fetched(server: Client) -> None:
    """Neither for a buffer nor for a texture of a mesh, nor for a picture given as an address."""
    asked: list[str] = []

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    trap = http.server.HTTPServer(("127.0.0.1", 0), Trap)
    thread = threading.Thread(target=trap.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{trap.server_address[1]}/x.bin"
        files = {"image": ("p.png", PICTURE), "mesh": ("m.glb", glb_of(gltf(address)))}
        is_problem(server("POST", "/v1/jobs", files=files), 422, "bad-mesh")
        with_texture = gltf(None) | {
            "images": [{"uri": address}],
            "textures": [{"source": 0}],
            "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        }
        with_texture["meshes"] = [{"primitives": [{"attributes": {"POSITION": 0}, "material": 0}]}]
        corners = struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
        files["mesh"] = ("m.glb", glb_of(with_texture, corners))
        assert server("POST", "/v1/jobs", files=files).status_code == 202
        for value in (address, f"data:text/uri-list,{address}"):
            is_problem(server("POST", "/generate", json={"image": value}), 400, "malformed")
    finally:
        trap.shutdown()
        thread.join()
        trap.server_close()
    assert asked == []


def test_a_mesh_that_claims_more_than_it_has(server: Client) -> None:
    for content in (
        glb_of(gltf(None, 1_000_000_000), b"\0" * 36),
        b"ply\nformat ascii 1.0\nelement vertex 999999999999\n",
    ):
        files = {"image": ("p.png", PICTURE), "mesh": ("m.glb", content)}
        is_problem(server("POST", "/v1/jobs", files=files), 422, "bad-mesh")


def test_names_never_become_paths(server: Client, tmp_path: Path) -> None:
    root = server.service.storage.root  # type: ignore[attr-defined]
    before = {p for p in root.parent.iterdir()}
    for name in ("../../evil", "/etc/evil", "C:\\evil", "a\0b", "...", "\u202egnp.exe", "x" * 300, "nul"):
        files = {"image": (name + ".png", PICTURE)}
        answer = server("POST", "/v1/jobs", files=files, data={"name": name})
        assert answer.status_code == 202, answer.text
        job = server.wait(answer.json()["id"])
        assert not set(job["name"]) & set('/\\:*?"<>|\0')
        assert len(job["name"]) <= 80
    assert {p for p in root.parent.iterdir()} == before
    for part in ("..%2f..%2fjobs.sqlite", "..", "%2e%2e%2f", "0" * 32, "x" * 5000):
        assert server("GET", f"/v1/jobs/{part}/result").status_code == 404
        assert server("GET", f"/status/{part}").status_code == 404
        assert server("DELETE", f"/v1/jobs/{part}").status_code == 404
    assert server("GET", "/v1/jobs?before=' OR 1=1 --").json()["jobs"] == []


def test_a_name_is_harmless_and_never_empty() -> None:
    assert checked_name("../../evil") == "_.._evil"
    assert checked_name("\n\t ") == "mesh"
    assert checked_name(None, "a red toy car with big wheels and more") == "a_red_toy_car_with_big"
    assert checked_name("...") == "mesh"


def test_huge_bodies_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, limits=Limits(body_bytes=200_000, bytes_in_flight=400_000))) as client:
        large = b"0" * 300_000
        is_problem(client.make(picture=large), 413, "too-large")
        is_problem(client("POST", "/generate", json={"image": large.decode()}), 413, "too-large")

        def piece() -> Iterator[bytes]:  # without a Content-Length
            for _ in range(100):
                yield b"0" * 10_000

        is_problem(client("POST", "/generate", data=piece()), 413, "too-large")
        host, port = client.base.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(b"POST /send HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
            assert b" 413 " in raw.recv(200)
        assert client.wait(client.make().json()["id"])["status"] == "done"


def test_many_fields_and_deep_json_are_refused(server: Client) -> None:
    is_problem(server("POST", "/v1/jobs", data={f"f{n}": "x" for n in range(2000)}), 400, "malformed")
    deep = "[" * 100_000 + "]" * 100_000
    answer = server("POST", "/generate", data=deep, headers={"Content-Type": "application/json"})
    is_problem(answer, 400, "malformed")
    assert server("POST", "/generate", json={"image": 5}).status_code == 422
    assert server("POST", "/generate", json=[1, 2]).status_code == 422
    is_problem(server("POST", "/generate", json={"image": "%%%"}), 400, "malformed")


def test_a_file_that_takes_too_long_or_too_much_costs_only_the_process_that_reads_it(tmp_path: Path) -> None:
    slow = Checker(Limits(check_s=0.5))
    slow.start()
    content = io.BytesIO()
    Image.effect_noise((2000, 2000), 50).save(content, "PNG", compress_level=1)
    with pytest.raises(ServiceError, match="longer than"):
        slow._ask("cut_out", (content.getvalue(), "auto", 4096, 10**9), 0.05)
    assert slow.cut_out(PICTURE, "auto", 64)[1] == "alpha", "a new process answers"
    slow.close()
    if Path("/proc").is_dir():
        small = Checker(Limits(check_bytes=350 << 20))
        with pytest.raises(ServiceError) as refused:
            small.cut_out(bomb(8900, 8900), "auto", 4096)  # within the limit of pixels
        assert refused.value.problem.kind.code == "bad-input"  # whichever allocation fails first
        assert "memory" in refused.value.problem.detail
        small.close()


def caused(*errors: Exception) -> Exception:
    """The first of these errors, each raised from the next one."""
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (cv2.error("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"), True),
        (caused(ImageError("the picture cannot be read"), OSError("out of memory error")), True),
        (caused(MeshError("no mesh"), MeshError("cannot be read"), MemoryError()), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("[ONNXRuntimeError] Failed to allocate memory for requested buffer of size 9"), True),
        (ValueError("x"), False),
        (caused(MeshError("no mesh"), ValueError("no face allocated")), False),
    ],
    ids=str,
)
def test_every_failed_allocation_is_known_for_one(error: Exception, expected: bool) -> None:
    assert _ran_out(error) is expected
