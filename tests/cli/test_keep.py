"""--keep beyond the plain case: painted views, pictures from words, a full disk; and --replay from anywhere."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hy3dgen import text2image
from hy3dgen.cli import color
from hy3dgen.errors import OutputError
from hy3dgen.jobs import keep
from hy3dgen.jobs.models import Models
from hy3dgen.runtime.files import sha256_of_file
from tests.cli.pictures import QUICK, draw_mug, save_mug
from tests.texgen.tiny import write_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(*argv: str) -> None:
    assert color.main([*argv, *QUICK, "--no-preview"]) == 0


def taken(capsys: Capture) -> str:
    """What the last run says it has taken from an earlier one."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("taken from an earlier run: ")]
    return lines[0].removeprefix("taken from an earlier run: ") if lines else ""


def test_painted_views_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Views, the slowest stage, were painted again whenever only the texture's size or UVs changed."""
    write_checkpoint(tmp_path / "models" / "tencent" / "Hunyuan3D-2", paint=False)
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    save_mug(Path("mug.png"))
    argv = ["--input", "mug.png", "--keep", "kept", "--model", "nano", "--texture", "paint-turbo",
            "--paint-steps", "2", "--delight-steps", "2"]  # fmt: skip
    run(*argv, "--output", "1.glb")
    kept = {path.name for path in Path("kept").iterdir()}
    assert {"delighted_00.png", *(f"views_{n:02}.png" for n in range(6))} <= kept
    capsys.readouterr()
    assert color.main([*argv, *QUICK, "--no-preview", "--output", "2.glb", "--texture-size", "256"]) == 0
    assert taken(capsys) == "cutout, latents, mesh, views"
    stages = [stage["name"] for stage in json.loads(Path("2.json").read_text())["stages"]]
    assert "views" not in stages and "delight" not in stages and "bake" in stages

    Path("kept/views_03.png").write_bytes(b"scribble")
    shutil.rmtree("kept/textured.png", ignore_errors=True)
    Path("kept/textured.json").write_text("{}")
    run(*argv, "--output", "3.glb")
    assert taken(capsys) == "cutout, latents, mesh, delighted"
    assert sha256_of_file(Path("3.glb")) == sha256_of_file(Path("1.glb"))


def test_another_seed_draws_another_picture(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The cut-out of --seed 1 was taken for --seed 2, and a kept run drew its picture again only to drop it."""
    drawn: list[int] = []

    def draw(self: Models, words: str, seed: int) -> Image.Image:
        drawn.append(seed)
        return draw_mug((200, 60 + seed, 40))

    monkeypatch.setattr(Models, "draw", draw)
    monkeypatch.setattr(text2image, "ensure_here", lambda: None)
    argv = ["--prompt", "a red mug", "--keep", "kept", "--texture", "none"]
    run(*argv, "--seed", "1")
    run(*argv, "--seed", "2")
    assert drawn == [1, 2] and taken(capsys) == ""
    assert Path("output/a_red_mug-2.glb").is_file()
    run(*argv, "--seed", "2")
    assert drawn == [1, 2] and taken(capsys) == "picture, cutout, latents, mesh"


def test_a_full_disk_under_keep_does_not_cost_the_result(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    written: list[Path] = []

    def full(path: Path, data: Any) -> None:
        written.append(path)
        raise OutputError(f"cannot write '{path}': {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(keep, "write_atomic", full)
    save_mug(Path("mug.png"))
    run("--input", "mug.png", "--keep", "kept", "--texture", "none")
    assert Path("output/mug.glb").is_file() and len(written) == 1, "it is tried once, not for every stage"
    assert "stages could not be kept: cannot write" in capsys.readouterr().err


def test_a_kept_cutout_is_made_again_once_a_background_model_is_here(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The warning says which model to install; after that the poor cut-out of before came from the kept stages."""
    draw_mug().convert("RGB").save("mug.png")
    argv = ["--input", "mug.png", "--keep", "kept", "--texture", "none", "--rembg", "off"]
    run(*argv)
    monkeypatch.setattr("hy3dgen.jobs.making.find_model", lambda: Path("u2netp.onnx"))
    run(*argv)
    assert taken(capsys) == "latents, mesh", "what the same cut-out gives again is taken all the same"


def test_a_replay_gives_the_same_file_from_any_folder_and_any_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The object inside the GLB was called after the report's file, and inputs were looked for here only."""
    save_mug(Path("mug.png"))
    run("--input", "mug.png", "--texture", "none", "--report", "r.json")
    run("--input", "mug.png", "--texture", "none")
    monkeypatch.chdir(tmp_path / "home" if (tmp_path / "home").is_dir() else tmp_path / "output")
    run("--replay", str(tmp_path / "r.json"), "--output", "1.glb")
    run("--replay", str(tmp_path / "output" / "mug-2.json"), "--output", "2.glb")
    assert {sha256_of_file(Path(name)) for name in ("1.glb", "2.glb")} == {
        sha256_of_file(tmp_path / "output" / "mug.glb")
    }
