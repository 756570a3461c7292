"""The download of the background model against a small server of the tests' own."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hy3dgen.errors import Cancelled, DownloadError
from hy3dgen.images import matting
from hy3dgen.images.fetch import fetch

CONTENT = os.urandom(3 << 20)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """stops_at: byte at which a transfer breaks off; ranges: what was asked for; resumes: whether it knows ranges.

    pause_s: between the quarters of a transfer
    """

    def __init__(self) -> None:
        self.stops_at: int | None = None
        self.resumes = True
        self.pause_s = 0.0
        self.ranges: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/u2net.onnx"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_args: object) -> None: ...

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.resumes else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = len(CONTENT) if self.server.stops_at is None else self.server.stops_at
        quarter = max(1, (end - start + 3) // 4)
        for first in range(start, end, quarter):
            self.wfile.write(CONTENT[first : min(first + quarter, end)])
            time.sleep(self.server.pause_s)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_progress_is_told_and_the_file_is_whole(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    fetch(server.url, tmp_path / "deep" / "m.onnx", md5=MD5, progress=lambda *figures: told.append(figures))
    assert (tmp_path / "deep" / "m.onnx").read_bytes() == CONTENT
    assert told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT)) and len(told) > 5
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["m.onnx"]


def test_a_transfer_that_breaks_off_goes_on_from_there(server: Server, tmp_path: Path) -> None:
    server.stops_at = 1 << 20
    with pytest.raises(DownloadError, match="what has arrived is kept"):
        fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert not (tmp_path / "m").exists()
    server.stops_at = None
    fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert (tmp_path / "m").read_bytes() == CONTENT and server.ranges == [None, f"bytes={1 << 20}-"]


def test_a_server_without_ranges_sends_it_all_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(CONTENT[:1000])
    server.resumes = False
    fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_a_whole_part_needs_no_byte_more(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(CONTENT)
    fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_a_damaged_file_gets_no_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="arrived damaged"):
        fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    """Two processes wrote into one .part, and both called the mixture damaged."""
    server.pause_s = 0.2
    waited: list[tuple[int, int | None]] = []
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(fetch, server.url, tmp_path / "m", md5=MD5, progress=lambda *figures: waited.append(figures))
            for _ in range(2)
        ]
        for job in jobs:
            job.result(timeout=60)
    assert (tmp_path / "m").read_bytes() == CONTENT and server.ranges == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert any(total is None for _, total in waited), "the one that waits can be cancelled meanwhile"


def test_a_full_disk_is_noticed_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=len(CONTENT)))
    with pytest.raises(DownloadError, match="MB free"):
        fetch(server.url, tmp_path / "m", md5=MD5, progress=lambda done, total: None)
    assert not (tmp_path / "m").exists()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="could not be downloaded"):
        fetch("http://127.0.0.1:9/none", tmp_path / "m", md5=MD5, progress=lambda done, total: None)


def test_a_cancel_ends_it_at_the_next_piece(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The download looked at no cancel event: Ctrl-C waited for 176 MB."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setenv("HY3DGEN_U2NET_URL", server.url)
    monkeypatch.setattr(matting, "DOWNLOAD_MD5", MD5)
    monkeypatch.setattr(matting.importlib.util, "find_spec", lambda name: None)
    seen: list[int] = []

    def progress(done: int, total: int | None) -> None:
        seen.append(done)
        if done > 500_000:
            raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        matting.obtain_model(progress=progress)
    assert seen[-1] < 1_000_000 and matting.find_model() is None
    assert "176 MB" in caplog.text
    found = matting.obtain_model()
    assert found.read_bytes() == CONTENT and server.ranges[-1] == f"bytes={seen[-1]}-"
