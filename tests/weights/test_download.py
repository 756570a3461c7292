"""Downloads against a small hub on this machine: exact files, resumed, checked, foreign errors mapped."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hy3dgen.errors import DownloadError
from hy3dgen.weights import download
from hy3dgen.weights.download import _ensure_disk, ensure_room

REPO, FOLDER = "tencent/Hunyuan3D-2mini", "hunyuan3d-dit-v2-mini"
WEIGHTS = f"{FOLDER}/model.fp16.safetensors"


def one_tensor(size_bytes: int) -> bytes:
    """A safetensors file of random bytes."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size_bytes)


CONTENT = {
    f"{FOLDER}/config.yaml": b"model: {}\n",
    WEIGHTS: one_tensor(24 << 20),
    f"{FOLDER}/model.safetensors": b"never asked for",
}


class Hub(ThreadingHTTPServer):
    """requests: (method, path, range); stops_at: byte at which transfers break off; garbles: sends other bytes."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, str | None]] = []
        self.stops_at: int | None = None
        self.garbles = False
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_args: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_body: bool) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.command, self.path, wanted))
        prefix = f"/{REPO}/resolve/main/"
        if self.path.startswith("/closed/"):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = CONTENT.get(self.path.removeprefix(prefix)) if self.path.startswith(prefix) else None
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound" if self.path.startswith(prefix) else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        body = content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(body)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not with_body:
            return
        if self.server.garbles:
            body = bytes(len(body))
        stop = self.server.stops_at
        self.wfile.write(body if stop is None else body[: max(stop - start, 0)])
        self.close_connection = stop is not None


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


SCRIPT = """
import json, sys
from hy3dgen.errors import Hy3dgenError
from hy3dgen.weights import inventory
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import locate_model
seen = []
options = DownloadOptions(accept=lambda licence: True, progress=lambda *figures: seen.append(figures))
try:
    found = locate_model(*json.loads(sys.argv[1]), download=options)
except Hy3dgenError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
else:
    problems = [check.problem for check in inventory.verify(found.folder)]
    print(json.dumps({"weights": str(found.weights), "source": found.source, "seen": seen[-1:], "problems": problems}))
"""


def ask(hub_url: str, home: Path, *model: str) -> dict[str, object]:
    """Locate a model in a process of its own: huggingface_hub reads its address when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub_url, "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "0"}
    environment["HF_HUB_DISABLE_XET"] = "1"
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(model)],
        check=True, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


def test_only_the_needed_files_are_fetched_once(hub: Hub, home: Path) -> None:
    """A14: the reference asked for every file of the folder, both precisions and both containers."""
    first = ask(hub.url, home, "2mini")
    assert first["source"] == "hub" and Path(str(first["weights"])).read_bytes() == CONTENT[WEIGHTS]
    assert first["seen"] == [[WEIGHTS, len(CONTENT[WEIGHTS]), len(CONTENT[WEIGHTS])]]
    fetched = {path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path}
    assert {path.rsplit("/", 1)[-1] for path in fetched} == {"config.yaml", "model.fp16.safetensors"}
    hub.requests.clear()
    again = ask(hub.url, home, REPO, FOLDER)
    assert again["source"] == "models folder" and not [path for _, path, _ in hub.requests if "/resolve/" in path]


def test_a_broken_transfer_goes_on_where_it_stopped(hub: Hub, home: Path) -> None:
    """The hub's own cache begins again from nothing, which for gigabytes on a bad line means never."""
    hub.stops_at = 12 << 20
    assert ask(hub.url, home, "2mini")["error"] == "DownloadError"
    hub.stops_at = None
    hub.requests.clear()
    second = ask(hub.url, home, "2mini")
    assert Path(str(second["weights"])).read_bytes() == CONTENT[WEIGHTS] and second["problems"] == [None, None]
    [wanted] = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith(WEIGHTS)]
    assert wanted is not None and int(wanted.removeprefix("bytes=").split("-")[0]) >= 10 << 20
    assert not list(home.rglob("*.part"))


def test_a_file_that_arrives_damaged_is_not_kept(hub: Hub, home: Path) -> None:
    hub.garbles = True
    answer = ask(hub.url, home, "2mini")
    assert answer["error"] == "WeightsDamagedError" and "arrived damaged" in str(answer["text"])
    assert not list(home.rglob("*.safetensors")) and not list(home.rglob("*.part"))


def test_what_the_hub_lacks_is_said(hub: Hub, home: Path) -> None:
    answer = ask(hub.url, home, REPO, "hunyuan3d-dit-v2-maxi")
    assert answer["error"] == "WeightsNotFoundError" and "hunyuan3d-dit-v2-mini-turbo" in str(answer["text"])
    answer = ask(hub.url, home, "nobody/nothing", "x")
    assert answer["error"] == "WeightsNotFoundError" and "no repository nobody/nothing" in str(answer["text"])


def test_a_repository_that_wants_a_login_says_so(hub: Hub, home: Path) -> None:
    answer = ask(hub.url, home, "closed/model", "x")
    assert "asks for a login and its owner's consent" in str(answer["text"]), answer


def test_a_hub_that_is_not_there(home: Path) -> None:
    answer = ask("http://127.0.0.1:9", home, "2mini")
    assert answer["error"] == "DownloadError" and "Check the network" in str(answer["text"])


def test_a_full_disk_is_noticed_before(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="HF_HOME"):
        _ensure_disk(1 << 60, tmp_path / "not" / "yet", "the model")
    _ensure_disk(1, tmp_path / "not" / "yet", "the model")


def test_the_disk_is_looked_at_for_the_whole_model_before_its_first_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file was looked at for itself, so a model of five files filled the disk with four of them."""
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(0, 0, 2 << 30))
    files = {"a/one": 1_200_000_000, "a/two": 1_200_000_000}
    with pytest.raises(DownloadError, match=r"the model 'x' takes 2\.4 GB but .* 2\.1 GB free"):
        ensure_room("o/r", files, tmp_path, "the model 'x'")
    part = tmp_path / "o" / "r" / "a" / "two.123.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as file:
        file.truncate(900_000_000)
    ensure_room("o/r", files, tmp_path, "the model 'x'")
