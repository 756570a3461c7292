"""The Blender add-on: its client against a real server; all of it inside Blender where a Python with bpy is given.

The second part is slow and needs the bpy wheel, which wants a Python version and NumPy of its own:
BLENDER_PYTHON=/path/to/python python -m pytest -m slow tests/service/test_blender_addon.py
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import tomllib
import types
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.service.rest.guard import Access
from tests.service.browser import ROOT, program
from tests.service.conftest import PICTURE, Client, serving, settings_for, until
from tools.blender_extension import build

ADDON = ROOT / "blender_addon.py"
BLENDER_PYTHON = os.environ.get("BLENDER_PYTHON") or (sys.executable if importlib.util.find_spec("bpy") else None)


@pytest.fixture(scope="module")
def addon() -> Iterator[Any]:
    """The add-on's module on an empty bpy: enough to define it, and an error for whatever it calls."""
    bpy: Any = types.ModuleType("bpy")
    bpy.types = types.SimpleNamespace(AddonPreferences=object, PropertyGroup=object, Operator=object, Panel=object)
    props: Any = types.ModuleType("bpy.props")
    for name in ("BoolProperty", "EnumProperty", "IntProperty", "PointerProperty", "StringProperty"):
        setattr(props, name, lambda **_: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "bpy", bpy)
        patch.setitem(sys.modules, "bpy.props", props)
        spec = importlib.util.spec_from_file_location("addon_under_test", ADDON)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def follow(addon: Any, address: str, name: str, token: str = "", picture: bytes = PICTURE) -> Any:
    return addon.Follower(addon.Client(address, token), {"name": name}, {"image": ("ä'b.png", picture)}, None)


def test_a_job_is_followed_to_its_file(addon: Any, server: Client) -> None:
    follower = follow(addon, server.base, "quick")
    until(lambda: follower.is_over)
    assert (follower.error, follower.is_cancelled) == (None, False)
    assert follower.glb[:4] == b"glTF"


def test_a_cancel_reaches_the_server(addon: Any, server: Client) -> None:
    follower = follow(addon, server.base, "slow")
    until(lambda: server("GET", "/v1/jobs?status=running").json()["jobs"])
    follower.cancel()
    until(lambda: follower.is_over)
    assert follower.is_cancelled and follower.error is None and follower.glb is None
    assert server("GET", "/v1/jobs").json()["jobs"][0]["status"] == "cancelled"


def test_errors_are_the_server_s_sentences(addon: Any, server: Client) -> None:
    refused = follow(addon, server.base, "quick", picture=b"no picture")
    crashed = follow(addon, server.base, "crash")
    until(lambda: refused.is_over and crashed.is_over)
    assert "picture" in refused.error
    assert "exit code 3" in crashed.error
    gone = follow(addon, "http://127.0.0.1:9", "quick")
    until(lambda: gone.is_over)
    assert "python api_server.py" in gone.error


@pytest.mark.parametrize("address", ["", "127.0.0.1:8081", "file:///etc/passwd", "http://"])
def test_addresses_that_are_none_are_refused(addon: Any, address: str) -> None:
    with pytest.raises(addon.ServerError, match="address"):
        addon.Client(address)


def test_a_token_is_sent_and_asked_for(addon: Any, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path), Access(token="secret")) as client:
        without, wrong = follow(addon, client.base, "quick"), follow(addon, client.base, "quick", "wrong")
        right = follow(addon, client.base, "quick", "secret")
        until(lambda: without.is_over and wrong.is_over and right.is_over)
    assert "token" in without.error and "token" in wrong.error
    assert right.error is None


def test_a_redirect_is_not_followed(addon: Any) -> None:
    """The token would go along to wherever a server points."""
    asked: list[str] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), Redirecting) as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever)
        thread.start()
        try:
            with pytest.raises(addon.ServerError, match="302"):
                addon.Client(f"http://127.0.0.1:{elsewhere.server_port}", "secret").server()
        finally:
            elsewhere.shutdown()
            thread.join()
    assert asked == ["/v1/server"]


def test_an_answer_that_breaks_off_is_a_server_that_does_not_answer(addon: Any) -> None:
    """It ended the job in the panel with 'IncompleteRead', instead of being asked for again."""

    class BreakingOff(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"status": ')

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    with HTTPServer(("127.0.0.1", 0), BreakingOff) as breaking:
        thread = threading.Thread(target=breaking.serve_forever)
        thread.start()
        try:
            with pytest.raises(addon.ServerError, match="No server answers") as refused:
                addon.Client(f"http://127.0.0.1:{breaking.server_port}").job("x")
        finally:
            breaking.shutdown()
            thread.join()
    assert not refused.value.status


def test_the_extension_has_what_blender_asks_for(tmp_path: Path) -> None:
    with zipfile.ZipFile(build(tmp_path)) as archive:
        assert archive.read("__init__.py") == ADDON.read_bytes()
        facts = tomllib.loads(archive.read("blender_manifest.toml").decode())
    needed = {"schema_version", "id", "version", "name", "tagline", "maintainer", "type", "license"}
    assert needed | {"blender_version_min"} <= facts.keys()
    assert len(facts["tagline"]) <= 64 and not facts["tagline"].endswith(".")
    assert all(len(words) <= 64 and not words.endswith(".") for words in facts["permissions"].values())
    assert f'"version": ({facts["version"].replace(".", ", ")})' in ADDON.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.extra
@pytest.mark.timeout(1500)
@pytest.mark.skipif(BLENDER_PYTHON is None, reason="no Python with bpy; install it and set BLENDER_PYTHON")
def test_inside_blender(tmp_path: Path) -> None:
    """Make at the cursor, colour a sphere in its place, cancel, and the words for what goes wrong."""
    extension = build(tmp_path)
    environment = {**os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "blender")}
    script, picture = ROOT / "tests" / "service" / "blender_script.py", ROOT / "assets" / "examples" / "mug.png"
    with program("api_server.py", tmp_path) as address:
        command = [str(BLENDER_PYTHON), str(script), address, str(picture), str(extension)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"no_server"')))
    assert "python api_server.py" in found["no_server"]["error"]
    assert "model nano" in found["check"]["message"] or "starting" in found["check"]["message"]
    assert found["no_picture"]["error"] == "Choose a picture first."
    made = found["made"]
    assert made["error"] == "" and made["faces"] == 800 and [128, 128] in made["images"]
    assert made["middle"] == pytest.approx([1, 2], abs=0.02) and made["bottom"] == pytest.approx(3, abs=0.02)
    assert any(words.startswith("Denoise") for words in made["words"])
    assert found["timer"] and found["gone"]
    low, high = found["coloured"]["bounds"]
    assert low == pytest.approx([4, -1, 0], abs=0.02) and high == pytest.approx([6, 1, 2], abs=0.02)
    assert found["coloured"]["hidden"] and all(found["coloured"]["materials"])
    assert found["cancelled"]["message"] == "Cancelled."
    assert "picture" in found["wrong_file"]["error"]
