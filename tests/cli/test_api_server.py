"""api_server.py as a process: it says where it listens, serves, and ends cleanly with its workers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from hy3dgen.cli.api_server import make_parser
from hy3dgen.cli.serving import access_from, settings_from
from hy3dgen.errors import UsageError, WeightsNotFoundError
from hy3dgen.service.settings import GIB, MIB
from tests.service.conftest import until

ROOT = Path(__file__).parents[2]


def settings_of(*words: str):  # type: ignore[no-untyped-def]
    return settings_from(make_parser().parse_all(words))


@contextmanager
def running(folder: Path, *words: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The script at a free port; yields its address."""
    command = [sys.executable, "api_server.py", "--port", "0", "--cache-path", str(folder), *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_it_serves_and_ends_with_its_workers(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--device", "cpu", "--token", "word") as (address, process):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        until(lambda: requests.get(f"{address}/health", timeout=5).ok)
        assert requests.get(f"{address}/v1/server", timeout=5).status_code == 401
        head = {"Authorization": "Bearer word"}
        facts = until(
            lambda: (
                (found := requests.get(f"{address}/v1/server", headers=head, timeout=30).json())["devices"] and found
            )
        )
        assert facts["devices"][0]["kind"] == "cpu"
        children = _children(process.pid)
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert "cancelled" not in process.stderr.read()
        until(lambda: not any(_alive(child) for child in children))


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "api_server.py", "--port", port, "--cache-path", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "another --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_become_settings(tmp_path: Path) -> None:
    found = settings_of(
        "--model_path", "nano", "--tex_model_path", str(tmp_path), "--device", "cuda:0,cuda:1", "--no-enable_tex",
        "--limit-model-concurrency", "1", "--vram", "4", "--keep-gb", "2", "--max-body-mb", "5", "--max-queue", "7",
        "--cache-path", str(tmp_path), "--idle-seconds", "9", "--keep-days", "0.5",
    )  # fmt: skip
    assert found.devices == ("cuda:0", "cuda:1")
    assert (found.concurrency, found.folder, found.models_folder, found.idle_s) == (1, tmp_path, tmp_path, 9)
    assert (found.runner.model, found.runner.vram, found.runner.enable_texture) == ("nano", "4", False)
    assert found.limits.keep_bytes == 2 * GIB
    assert (found.limits.body_bytes, found.limits.queue, found.limits.keep_days) == (5 * MIB, 7, 0.5)
    plain = settings_of()
    assert (plain.runner.model, plain.runner.texture, plain.runner.enable_texture) == ("auto", "auto", True)


def test_names_of_the_reference_are_taken() -> None:
    assert settings_of("--tex_model_path", "tencent/Hunyuan3D-2", "--enable_tex").runner.texture == "auto"
    with pytest.raises(WeightsNotFoundError, match="weights get"):
        settings_of("--model_path", "tencent/Hunyuan3D-2mini")


@pytest.mark.parametrize(
    "words",
    [
        ("--vram", "much"),
        ("--keep-days", "0"),
        ("--max-queue", "-1"),
        ("--limit-model-concurrency", "0"),
        ("--tex_model_path", "nobody/nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=words[0].split("_")[0]):
        settings_of(*words)


def test_only_a_server_for_this_machine_insists_on_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HY3DGEN_API_TOKEN", raising=False)
    values = make_parser().parse_all([])
    assert "localhost" in access_from(values, "127.0.0.1").hosts
    assert access_from(values, "0.0.0.0").hosts == frozenset()
    named = make_parser().parse_all(["--allow-host", "Render.Local"])
    assert "render.local" in access_from(named, "0.0.0.0").hosts
    monkeypatch.setenv("HY3DGEN_API_TOKEN", "from the environment")
    assert access_from(values, "127.0.0.1").token == "from the environment"
    for wrong in (["--token", ""], ["--token", "schlüssel"], ["--cors-origin", "*"]):
        with pytest.raises(UsageError):
            access_from(make_parser().parse_all(wrong), "127.0.0.1")


def _children(pid: int) -> list[int]:
    psutil = pytest.importorskip("psutil")
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
