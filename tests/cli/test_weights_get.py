"""python -m hy3dgen weights get, as a user runs it, against a small hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.weights.test_download import FOLDER, WEIGHTS, Hub, hub

__all__ = ["hub"]  # the fixture
ROOT = Path(__file__).resolve().parents[2]


def weights(hub_url: str, home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "HF_ENDPOINT": hub_url,
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
    }
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HY3DGEN_MODELS", "HY3DGEN_ACCEPT_LICENCE"):
        env.pop(name, None)
    command = [sys.executable, "-m", "hy3dgen", "weights", *argv]
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def test_get_asks_for_the_licence_once_and_goes_on_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    refused = weights(hub.url, tmp_path, "get", "2mini")
    assert refused.returncode == 4
    assert "--accept-licence" in refused.stderr and "European Union" in refused.stderr
    assert not [path for _, path, _ in hub.requests if path.endswith(WEIGHTS)], "nothing is fetched before the yes"

    hub.stops_at = 12 << 20
    broken = weights(hub.url, tmp_path, "get", "2mini", "--accept-licence")
    assert broken.returncode == 4 and "Traceback" not in broken.stderr
    assert "the transfer goes on from there" in broken.stderr

    hub.stops_at = None
    hub.requests.clear()
    done = weights(hub.url, tmp_path, "get", "2mini")
    assert done.returncode == 0, done.stderr
    assert (Path(done.stdout.strip()) / "model.fp16.safetensors").is_file()
    assert "model.fp16.safetensors: " in done.stderr and "100 %" in done.stderr
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith(WEIGHTS)]
    assert ranges and all(ranges), "what had arrived was not fetched again"

    listed = weights(hub.url, tmp_path, "list")
    assert next(line for line in listed.stdout.splitlines() if line.startswith("2mini ")).count(FOLDER) == 1
    path = weights(hub.url, tmp_path, "path", "2mini")
    assert path.stdout == done.stdout
    verified = weights(hub.url, tmp_path, "verify", "2mini")
    assert verified.returncode == 0 and verified.stdout.count("good") == 2

    # A byte that had changed on the disk since was 'good': the hub's record was forgotten after the transfer.
    file = Path(done.stdout.strip()) / "model.fp16.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 255
    file.write_bytes(content)
    damaged = weights(hub.url, tmp_path, "verify", "2mini")
    assert damaged.returncode == 4 and "the hub recorded" in damaged.stdout
    assert "delete them and run: python -m hy3dgen weights get 2mini" in damaged.stderr
