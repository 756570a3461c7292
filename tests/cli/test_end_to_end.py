"""The scripts as a user runs them, with the built-in model at its smallest settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import trimesh
from PIL import Image

from hy3dgen.cli import color, module, multiview
from hy3dgen.meshes.io import encode_mesh, read_mesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.reports.run import read_report
from hy3dgen.runtime.files import sha256_of_file
from tests.cli.pictures import QUICK, save_mug

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run(*argv: str, main: Any = color.main, code: int = 0) -> None:
    assert main([*argv, *QUICK]) == code


def lines(path: str = "output/batch.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_one_picture_gives_mesh_preview_and_report_and_the_same_again(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    run("--input", "mug.png")
    seen = capsys.readouterr()
    assert seen.out.split() == [str(Path("output") / name) for name in ("mug.glb", "mug.png", "mug.json")]
    assert "no rival of the official weights" in seen.err
    report = json.loads(Path("output/mug.json").read_text(encoding="utf-8"))
    jsonschema.validate(report, SCHEMA)
    assert [o["sha256"] for o in report["outputs"]] == [sha256_of_file(Path(o["path"])) for o in report["outputs"]]
    names = [stage["name"] for stage in report["stages"]]
    assert [n for n in names if n != "load"] == [
        "cutout", "condition", "denoise", "decode", "extract", "clean", "unwrap", "maps", "bake", "fill", "export",
    ]  # fmt: skip
    scene = trimesh.load("output/mug.glb")
    assert sum(len(g.faces) for g in scene.geometry.values()) == report["mesh"]["faces"]
    inside = read_report(Path("output/mug.glb"))
    assert inside["mesh"] == report["mesh"] and inside["inputs"][0]["sha256"] == report["inputs"][0]["sha256"]
    assert "seconds" not in json.dumps(inside)
    with Image.open("output/mug.png") as image:
        preview = np.asarray(image.convert("RGB"))
    assert preview.std() > 10, "the preview shows something"

    run("--input", "mug.png", "--quiet")
    seen = capsys.readouterr()
    assert seen.err == "" and "mug-2.glb" in seen.out
    assert color.main(["--replay", "output/mug.json", "--output", "again.glb", "--no-preview", "--no-report"]) == 0
    hashes = {sha256_of_file(Path(p)) for p in ("output/mug.glb", "output/mug-2.glb", "again.glb")}
    assert len(hashes) == 1, "equal runs give equal files, whatever their names"
    assert not list(Path().glob("again.*[!b]"))

    assert module.main(["report", "output/mug.glb"]) == 0
    assert f"{report['mesh']['faces']:,} faces" in capsys.readouterr().out


def test_a_replay_notices_that_the_picture_has_changed(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    run("--input", "mug.png", "--texture", "none", "--no-preview", "--output", "x.glb")
    save_mug(Path("mug.png"), colour=(0, 0, 255))
    assert color.main(["--replay", "x.json"]) == 3
    assert "has changed since" in capsys.readouterr().err


def test_every_format_and_frame(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    run("--input", "mug.png", "--output", "a.obj", "--no-preview", "--no-report", "--keep", "kept")
    assert {p.name for p in Path().glob("a*")} == {"a.obj", "a.mtl", "a_texture.png"}
    for name in ("a.ply", "a.stl"):
        run("--input", "mug.png", "--output", name, "--no-preview", "--no-report", "--keep", "kept")
    run("--input", "mug.png", "--output", "big.ply", "--no-preview", "--no-report", "--keep", "kept",
        "--units", "cm", "--up", "z", "--origin", "base")  # fmt: skip
    small, big = read_mesh("a.ply").vertices, read_mesh("big.ply").vertices
    assert np.allclose(np.ptp(big, axis=0)[[0, 2, 1]], 100 * np.ptp(small, axis=0), rtol=1e-4)
    assert abs(big[:, 2].min()) < 1e-3


def test_kept_stages_are_taken_up_again_and_damaged_ones_made_anew(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    argv = ("--input", "mug.png", "--keep", "kept", "--no-preview", "--output")
    run(*argv, "1.glb")
    assert {"manifest.json", "cutout_front.png", "latents.safetensors", "mesh.safetensors", "textured.png"} <= set(
        os.listdir("kept")
    )
    capsys.readouterr()
    run(*argv, "2.glb")
    err = capsys.readouterr().err
    assert "taken from an earlier run: cutout, latents, mesh, unwrapped, texture" in err
    assert "Loading the model" not in err, "nothing is loaded when everything is kept"
    content = bytearray(Path("kept/mesh.safetensors").read_bytes())
    content[-1] ^= 1
    Path("kept/mesh.safetensors").write_bytes(content)
    run(*argv, "3.glb")
    err = capsys.readouterr().err
    assert "the kept stage 'mesh' was damaged" in err and "earlier run: cutout, latents, unwrapped, texture" in err
    Path("kept/manifest.json").write_text("{", encoding="utf-8")
    run(*argv, "4.glb")
    assert "earlier run" not in capsys.readouterr().err
    assert len({sha256_of_file(Path(f"{n}.glb")) for n in range(1, 5)}) == 1
    run(*argv, "5.glb", "--seed", "9")
    assert "taken from an earlier run: cutout\n" in capsys.readouterr().err
    assert sha256_of_file(Path("5.glb")) != sha256_of_file(Path("4.glb"))


def test_a_batch_goes_on_past_a_bad_input_and_resumes_by_content(capsys: Capture) -> None:
    save_mug(Path("in/a.png"))
    save_mug(Path("in/sub/a.png"), colour=(20, 90, 200))
    Path("in/bad.png").write_text("no picture")
    argv = ("--input", "in", "--texture", "none")
    run(*argv, code=3)
    seen = capsys.readouterr()
    assert "3 in all: 2 done, 1 failed" in seen.err and "error: bad: 'in/bad.png' is not a picture" in seen.err
    assert Path("output/a.glb").is_file() and Path("output/sub/a.glb").is_file()
    assert [(e["name"], e["status"]) for e in lines()] == [("a", "done"), ("bad", "failed"), ("a", "done")]
    assert seen.err.count("Loading the model") == 1, "models load once"

    Path("in/a.png").rename(Path("in/renamed.png"))
    Path("output/sub/a.glb").unlink()
    with Path("output/batch.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"status": "do')
    Path("in/bad.png").unlink()
    run(*argv, "--resume")
    err = capsys.readouterr().err
    assert "2 in all: 1 done, 1 skipped" in err, "a new name is no new content, a lost file is made again"


def test_variations_get_a_contact_sheet(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    run("--input", "mug.png", "--count", "2", "--seed", "5", "--texture", "none", "--no-report")
    assert sorted(os.listdir("output")) == [
        "batch.jsonl", "mug_seed5.glb", "mug_seed5.png", "mug_seed6.glb", "mug_seed6.png", "mug_sheet.png",
    ]  # fmt: skip
    with Image.open("output/mug_sheet.png") as sheet:
        width, height = sheet.size
    assert width > height, "two cells side by side"
    assert [e["seed"] for e in lines()] == [5, 6]
    first, second = (Path(f"output/mug_seed{seed}.glb").read_bytes() for seed in (5, 6))
    assert first != second


def test_variations_resume_too(capsys: Capture) -> None:
    """--count 50 that was stopped at 40 could not go on: --resume was refused as being for batches."""
    save_mug(Path("mug.png"))
    argv = ("--input", "mug.png", "--texture", "none", "--no-report", "--resume", "--count")
    run(*argv, "1", code=2)
    assert "--resume is for batches and --count" in capsys.readouterr().err
    run(*argv, "2")
    first = Path("output/mug_sheet.png").read_bytes()
    capsys.readouterr()
    run(*argv, "3")
    assert "3 in all: 1 done, 2 skipped" in capsys.readouterr().err
    assert Path("output/mug_sheet.png").read_bytes() == first
    with Image.open("output/mug_sheet-2.png") as sheet:
        assert sheet.size[1] > 400, "three cells in two rows, the skipped ones among them"
    run(*argv, "3")
    assert not Path("output/mug_sheet-3.png").exists()


def test_a_folder_that_holds_its_own_results_is_done_once(capsys: Capture) -> None:
    save_mug(Path("pictures/a.png"))
    argv = ("--input", "pictures", "--output", "pictures", "--texture", "none", "--resume")
    run(*argv)
    capsys.readouterr()
    run(*argv)
    assert "1 in all: 1 skipped" in capsys.readouterr().err


def cube_with_uv() -> Mesh:
    """A unit cube, each triangle with its own part of the page."""
    box = trimesh.creation.box()
    corners = box.vertices[box.faces.reshape(-1)].astype(np.float32)
    cell = np.arange(12)
    within = np.tile(np.array([[0.05, 0.05], [0.95, 0.05], [0.05, 0.95]], np.float32), (12, 1))
    offset = np.repeat(np.stack([cell % 4, cell // 4], 1), 3, axis=0).astype(np.float32)
    uv = ((within + offset) / 4).astype(np.float32)
    return Mesh(corners + 5, np.arange(36, dtype=np.int32).reshape(12, 3), uv=uv)


def test_a_given_mesh_keeps_topology_uvs_and_place_unless_asked(capsys: Capture) -> None:
    save_mug(Path("mug.png"))
    mesh = cube_with_uv()
    Path("cube.glb").write_bytes(encode_mesh(mesh, "cube.glb", origin="keep")["cube.glb"])
    argv = ("--input", "mug.png", "--mesh", "cube.glb", "--no-preview", "--output")
    run(*argv, "kept.glb")
    assert "Finding the shape" not in capsys.readouterr().err
    result = read_mesh("kept.glb")
    assert len(result.faces) == 12 and result.texture is not None
    assert np.allclose(result.vertices.min(0), 4.5, atol=1e-5), "it stays where it was"
    assert result.uv is not None and mesh.uv is not None
    assert np.allclose(np.sort(result.uv, axis=0), np.sort(mesh.uv, axis=0), atol=1e-6)
    run(*argv, "new.glb", "--unwrap")
    unwrapped = read_mesh("new.glb")
    assert len(unwrapped.faces) == 12
    assert not np.array_equal(np.sort(unwrapped.uv.ravel())[:20], np.sort(result.uv.ravel())[:20])
    Path("dots.ply").write_bytes(trimesh.PointCloud(mesh.vertices).export(file_type="ply"))
    run("--input", "mug.png", "--mesh", "dots.ply", code=3)
    assert "holds no triangles" in capsys.readouterr().err


def test_views_colour_the_sides_they_show() -> None:
    """Every side of a cube has the colours of the picture taken from there, and none of them is mirrored; left is the
    object's own left, file +x. Top and bottom, which no view shows, take their colours from the sides."""
    sides = {
        "front": ((0, 0, 1), (1, 0, 0), (220, 30, 30)),
        "left": ((1, 0, 0), (0, 0, -1), (30, 200, 30)),
        "back": ((0, 0, -1), (-1, 0, 0), (30, 30, 220)),
        "right": ((-1, 0, 0), (0, 0, 1), (210, 190, 20)),
    }  # view: direction of its side, of the right half of its picture, colour of the left half; the right one is dark
    for view, (_, _, colour) in sides.items():
        image = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
        image.paste((*colour, 255), (20, 20, 48, 76))
        image.paste((*(part // 3 for part in colour), 255), (48, 20, 76, 76))
        image.save(f"{view}.png")
    Path("cube.glb").write_bytes(encode_mesh(cube_with_uv(), "cube.glb")["cube.glb"])
    argv = [f"--{view}={view}.png" for view in sides]
    run(*argv, "--mesh", "cube.glb", "--output", "c.glb", "--no-preview", main=multiview.main)
    points, normals, shown = texels_shown(read_mesh("c.glb"))
    for view, (direction, right, colour) in sides.items():
        on_side = normals @ np.array(direction) > 0.9
        across = points @ np.array(right)
        for half, wanted in ((across < -0.1, colour), (across > 0.1, tuple(part // 3 for part in colour))):
            seen = shown[on_side & half & (np.abs(across) < 0.4) & (np.abs(points[:, 1]) < 0.4)]
            assert len(seen) > 50
            assert np.abs(seen - wanted).max() < 40, (view, wanted, seen)
    for up in (1, -1):
        unseen = shown[normals @ np.array((0, up, 0)) > 0.9]
        nearest = np.abs(unseen[:, None] - np.array([colour for *_, colour in sides.values()])).sum(-1).min(1)
        assert nearest.max() < 300, "a colour that no picture has"


def texels_shown(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3), normals (N, 3) and colours (N, 3) of a grid of texels inside every triangle."""
    assert mesh.texture is not None and mesh.uv is not None
    steps = [(u, v, 24 - u - v) for u in range(1, 23) for v in range(1, 23 - u)]
    weights = np.array(steps, np.float64) / 24
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    points = np.einsum("wk,fkc->fwc", weights, corners)
    size = len(mesh.texture)
    at = np.clip((np.einsum("wk,fkc->fwc", weights, mesh.uv[mesh.faces]) * size).astype(int), 0, size - 1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shown = mesh.texture[size - 1 - at[..., 1], at[..., 0]].astype(int)
    return points.reshape(-1, 3), np.repeat(normals, len(weights), axis=0), shown.reshape(-1, 3)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "pictures"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_a_signal_stops_within_a_step_and_leaves_no_file(number: int, pictures: int, tmp_path: Path) -> None:
    names = [save_mug(tmp_path / f"{n}.png", (200, 60, n)).name for n in range(pictures)]
    argv = [sys.executable, str(ROOT / "color.py"), "--input", *names, "--steps", "1000", "--device", "cpu"]
    process = subprocess.Popen(
        argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if "Reading the picture" in line:
                break
        started = time.monotonic()
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert time.monotonic() - started < 30
    assert "stopping after this step" in rest and rest.count("error: ") == 1 and "error: cancelled" in rest
    assert pictures == 1 or ("2 in all: 2 cancelled" in rest and "--resume goes on from here" in rest)
    assert list((tmp_path / "output").iterdir()) == []
