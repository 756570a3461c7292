"""--mesh with what people really have: scenes, maps that hold no texture, broken and huge files. In process."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from hy3dgen.cli import color
from hy3dgen.jobs import making
from hy3dgen.meshes.io import read_mesh
from hy3dgen.meshes.unwrap import uv_metrics
from tests.cli.pictures import QUICK, save_mug

Capture = pytest.CaptureFixture[str]
Material = trimesh.visual.material.PBRMaterial


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    save_mug(Path("mug.png"))


def run(capsys: Capture, mesh: str, *more: str, code: int = 0) -> str:
    argv = ["--input", "mug.png", "--mesh", mesh, *QUICK, "--no-preview", "--output", "result.glb", "--overwrite"]
    assert color.main([*argv, *more]) == code
    return capsys.readouterr().err


def box_with_uv(shift: float, material: Material) -> trimesh.Trimesh:
    """A cube, each triangle with its own part of the page."""
    box = trimesh.creation.box()
    corners = box.vertices[box.faces.reshape(-1)] + [shift, 0, 0]
    cell = np.arange(12)
    within = np.tile(np.array([[0.05, 0.05], [0.95, 0.05], [0.05, 0.95]]), (12, 1))
    uv = (within + np.repeat(np.stack([cell % 4, cell // 4], 1), 3, axis=0)) / 4
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    return trimesh.Trimesh(corners, np.arange(36).reshape(12, 3), process=False, visual=visual)


def save_scene(name: str, *parts: trimesh.Trimesh) -> str:
    scene = trimesh.Scene()
    for index, part in enumerate(parts):
        scene.add_geometry(part, node_name=f"part{index}")
    scene.export(name)
    return name


def test_a_scene_becomes_one_coloured_mesh_and_shared_texels_are_told(capsys: Capture) -> None:
    picture = Image.new("RGB", (16, 16), "red")
    same = save_scene("same.glb", *(box_with_uv(2 * n, Material(baseColorTexture=picture)) for n in range(2)))
    err = run(capsys, same)
    assert "100% of the mesh's UV map lies under more than one part" in err and "--unwrap" in err
    assert len(read_mesh("result.glb").faces) == 24
    assert "lies under" not in run(capsys, same, "--unwrap")
    assert uv_metrics(read_mesh("result.glb")).overlap < 0.01


def test_a_map_that_holds_no_texture_is_made_anew(capsys: Capture) -> None:
    """Parts coloured by material alone have their UVs in one point: it was 'cover none of 128 x 128 texels', exit 3."""
    colours = [Material(baseColorFactor=colour) for colour in ([1.0, 0, 0, 1], [0, 0, 1.0, 1])]
    err = run(capsys, save_scene("colour.glb", *(box_with_uv(2 * n, c) for n, c in enumerate(colours))))
    assert "too little for a texture; a new one was made" in err
    assert uv_metrics(read_mesh("result.glb")).coverage > 0.3


def test_three_faces_on_one_edge_and_a_repeating_map_are_coloured(capsys: Capture) -> None:
    fin = trimesh.Trimesh(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]], [[0, 1, 2], [0, 1, 3], [0, 1, 4]], process=False
    )
    fin.export("fin.obj")
    assert "not watertight" in run(capsys, "fin.obj")
    tiles = box_with_uv(0, Material())
    tiles.visual.uv = tiles.visual.uv * 5 - 2
    tiles.export("tiles.glb")
    assert "UV map repeats its texture" in run(capsys, "tiles.glb")


def test_too_many_faces_name_the_way_out(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with --faces a mesh over the limit was refused, and the sentence sent people to another program."""
    trimesh.creation.icosphere(subdivisions=4).export("ball.ply")
    monkeypatch.setattr(making, "MAX_FACES", 1000)
    assert "5,120 faces, more than 1,000" in run(capsys, "ball.ply", code=3)
    assert "--faces 200000" in run(capsys, "ball.ply", "--faces", "2000", code=3)
    run(capsys, "ball.ply", "--faces", "400")
    assert len(read_mesh("result.glb").faces) <= 400


def glb(document: dict[str, object]) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


def save_broken() -> None:
    Path("empty.obj").write_text("# nothing\n")
    Path("nothing.stl").write_bytes(b"")
    Path("noise.glb").write_bytes(b"glTF" + bytes(40))
    Path("mug.glb").write_bytes(Path("mug.png").read_bytes())
    Path("draco.glb").write_bytes(
        glb({"asset": {"version": "2.0"}, "extensionsRequired": ["KHR_draco_mesh_compression"]})
    )
    Path("folder.glb").mkdir()
    Path("flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    Path("point.obj").write_text("v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n")
    Path("grain.obj").write_text("v 0 0 0\nv 1e-12 0 0\nv 0 1e-12 0\nf 1 2 3\n")
    Path("nan.obj").write_text("v nan 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nf 1 2 3\nf 2 4 3\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.glb", "'gone.glb' does not exist"),
        ("folder.glb", "'folder.glb' is a folder, not a mesh"),
        ("mug.png", "unknown mesh format '.png'; readable are .glb"),
        ("empty.obj", "holds no triangles"),
        ("nothing.stl", "has 0 bytes"),
        ("noise.glb", "cannot be read as GLB"),
        ("mug.glb", "cannot be read as GLB"),
        ("draco.glb", "compressed with Draco, which is not read here; export it without"),
        ("flat.obj", "no face of the mesh has an area"),
        ("point.obj", "all vertices are in one place"),
        ("grain.obj", "1e-12 units across; scale it"),
        ("nan.obj", "touch a NaN or infinite vertex"),
    ],
)
def test_a_mesh_that_cannot_be_used_is_exit_3(capsys: Capture, name: str, words: str) -> None:
    save_broken()
    err = run(capsys, name, code=3)
    assert words in err and err.count("error: ") == 1 and "Traceback" not in err
    assert not Path("result.glb").exists()
