"""The image definitions: linted, and in step with what the checkout has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hy3dgen.cli.api_server import make_parser

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_there_is_one_for_the_cpu_and_one_for_cuda_and_both_are_short() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "cuda.Dockerfile"]
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 100 for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    tool = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed; the development requirements have it for Linux on x86-64")
    done = subprocess.run([tool, "--no-color", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_not_ignored(path: Path) -> None:
    allowed = [
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"
    ]
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert list(ROOT.glob(source)), source
            assert source in allowed, source
    assert re.search(r"^USER (?!root|0\b)", text, re.MULTILINE)
    pinned = re.search(r"torch==([\d.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert pinned is not None
    assert all(version == pinned[1] for version in re.findall(r"torch==([\d.]+)", text))


def test_the_compose_file_starts_servers_with_options_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"api-cpu", "api-cuda"}
    for service in compose["services"].values():
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        make_parser().parse_all(service["command"])
