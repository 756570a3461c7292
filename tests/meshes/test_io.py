"""Reading and writing: round trips, the glTF document itself, and files that try something."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes import io, topology
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from tests.meshes import shapes

ENDINGS = (".glb", ".obj", ".ply", ".stl")


@pytest.fixture(scope="module")
def textured() -> Mesh:
    mesh = unwrap(shapes.bumpy(2, 1), size_px=128)
    return mesh.with_(texture=np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


def save(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder / next(iter(files))


def sorted_corners(mesh: Mesh) -> np.ndarray:
    return np.sort(mesh.vertices[mesh.faces].reshape(len(mesh.faces), -1), axis=0)


def document(glb: bytes) -> tuple[dict, bytes]:
    """JSON and binary chunk of a GLB, checking the container on the way."""
    magic, version, total = struct.unpack_from("<4sII", glb)
    assert (magic, version, total) == (b"glTF", 2, len(glb))
    length, kind = struct.unpack_from("<I4s", glb, 12)
    assert kind == b"JSON" and length % 4 == 0
    size, kind = struct.unpack_from("<I4s", glb, 20 + length)
    assert kind == b"BIN\0" and size % 4 == 0 and 28 + length + size == total
    return json.loads(glb[20 : 20 + length]), glb[28 + length :]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["thing", "two words", "größe"])
def test_round_trip(tmp_path: Path, textured: Mesh, ending: str, name: str):
    read = io.read_mesh(save(tmp_path, io.encode_mesh(textured, name + ending, origin="keep")))
    assert np.abs(sorted_corners(read) - sorted_corners(textured)).max() < 1e-6
    assert topology.is_watertight(read) and topology.volume(read) > 0
    if ending in (".glb", ".obj"):
        assert np.array_equal(read.texture, textured.texture)
        assert np.abs(read.uv[read.faces] - textured.uv[textured.faces]).max() < 1e-6
        assert read.texture.dtype == np.uint8 and read.uv.dtype == np.float32
    assert read.vertices.dtype == np.float32 and read.faces.dtype == np.int32


@pytest.mark.parametrize("ending", ENDINGS)
def test_units_up_and_origin_agree_in_every_format(tmp_path: Path, textured: Mesh, ending: str):
    moved = textured.with_(vertices=textured.vertices + np.float32([3, 5, 7]))
    files = io.encode_mesh(moved, "a" + ending, units="cm", up="z", origin="base")
    read = io.read_mesh(save(tmp_path, files))
    low, high = read.vertices.min(0), read.vertices.max(0)
    size = np.ptp(textured.vertices, axis=0) * 100
    assert high - low == pytest.approx(size[[0, 2, 1]], rel=1e-4)
    assert low[2] == pytest.approx(0, abs=1e-3) and (low + high)[:2] == pytest.approx(0, abs=1e-3)
    assert topology.volume(read) == pytest.approx(topology.volume(textured) * 1e6, rel=1e-4)


def test_front_turns_with_up(textured: Mesh):
    """+z towards the viewer becomes -y, as Blender has it; +y becomes +z."""
    marker = Mesh(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 2]], np.float32), np.array([[0, 1, 2]], np.int32))
    ply = io.encode_mesh(marker, "a.ply", up="z", origin="keep")["a.ply"]
    loaded = trimesh.load(trimesh.util.wrap_as_stream(ply), file_type="ply", process=False)
    assert loaded.vertices.tolist() == [[0, 0, 0], [0, 0, 1], [0, -2, 0]]


@pytest.mark.parametrize("ending", ENDINGS)
def test_equal_input_gives_equal_bytes(textured: Mesh, ending: str):
    one = io.encode_mesh(textured, "a" + ending, extras={"b": 1, "a": {"y": 1, "x": 2}})
    two = io.encode_mesh(textured, "a" + ending, extras={"a": {"x": 2, "y": 1}, "b": 1})
    assert one == two


def test_glb_is_what_viewers_expect(textured: Mesh):
    extras = {"seed": 7, "mesh": {"faces": len(textured.faces)}}
    gltf, binary = document(io.encode_mesh(textured, "a.glb", extras=extras)["a.glb"])
    assert gltf["asset"] == {"version": "2.0", "generator": gltf["asset"]["generator"], "extras": extras}
    assert "hy3dgen" in gltf["asset"]["generator"]
    assert gltf["buffers"] == [{"byteLength": len(binary)}]
    pbr = gltf["materials"][0]["pbrMetallicRoughness"]
    assert pbr["metallicFactor"] == 0 and pbr["roughnessFactor"] == 0.9 and pbr["baseColorTexture"]["index"] == 0
    end = 0
    for view in gltf["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and end <= view["byteOffset"] < end + 4, (
            "views are aligned and do not overlap"
        )
        end = view["byteOffset"] + view["byteLength"]
    assert end <= len(binary)
    arrays = []
    for accessor in gltf["accessors"]:
        view = gltf["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        assert view["byteLength"] == accessor["count"] * width * 4
        arrays.append(np.frombuffer(binary, kind, accessor["count"] * width, view["byteOffset"]).reshape(-1, width))
    primitive = gltf["meshes"][0]["primitives"][0]
    position, normal, uv = (arrays[primitive["attributes"][key]] for key in ("POSITION", "NORMAL", "TEXCOORD_0"))
    described = gltf["accessors"][primitive["attributes"]["POSITION"]]
    assert described["min"] == position.min(0).tolist() and described["max"] == position.max(0).tolist()
    assert np.linalg.norm(normal, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.array_equal(uv, np.stack([textured.uv[:, 0], 1 - textured.uv[:, 1]], 1))
    assert np.array_equal(arrays[primitive["indices"]].reshape(-1, 3), textured.faces)
    image = gltf["images"][0]
    view = gltf["bufferViews"][image["bufferView"]]
    assert image["mimeType"] == "image/png" and "target" not in view
    png = Image.open(trimesh.util.wrap_as_stream(binary[view["byteOffset"] :][: view["byteLength"]]))
    assert np.array_equal(np.array(png), textured.texture)


def test_glb_keeps_metres_and_y_up_in_its_data(textured: Mesh):
    plain, plain_data = document(io.encode_mesh(textured, "a.glb")["a.glb"])
    turned, turned_data = document(io.encode_mesh(textured, "a.glb", units="mm", up="z")["a.glb"])
    assert plain_data == turned_data and set(plain["nodes"][0]) == {"name", "mesh"}
    assert turned["nodes"][0]["scale"] == [1000.0] * 3
    assert turned["nodes"][0]["rotation"] == pytest.approx([0.5**0.5, 0, 0, 0.5**0.5])


def test_mesh_without_uv_has_no_texture_entries():
    gltf, _ = document(io.encode_mesh(shapes.box(), "a.glb")["a.glb"])
    assert "textures" not in gltf and "images" not in gltf and "extras" not in gltf["asset"]


def test_ply_colours_come_from_the_texture():
    """Left half red, right half blue; v up, so row 0 of the texture is the upper edge."""
    texture = np.zeros((4, 4, 3), np.uint8)
    texture[:, :2, 0], texture[:, 2:, 2], texture[0, :, 1] = 200, 100, 50
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    quad = Mesh(np.pad(uv, ((0, 0), (0, 1))), np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv=uv, texture=texture)
    ply = io.encode_mesh(quad, "a.ply")["a.ply"]
    loaded = trimesh.load(trimesh.util.wrap_as_stream(ply), file_type="ply", process=False)
    assert loaded.visual.vertex_colors[:, :3].tolist() == [[200, 0, 0], [0, 0, 100], [0, 50, 100], [200, 50, 0]]


def test_obj_names_its_side_files(textured: Mesh):
    files = io.encode_mesh(textured, "two words.obj")
    assert next(iter(files)) == "two words.obj" and set(files) == {
        "two words.obj",
        "two_words.mtl",
        "two_words_texture.png",
    }
    assert (
        b"mtllib two_words.mtl" in files["two words.obj"] and b"map_Kd two_words_texture.png" in files["two_words.mtl"]
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_bad_meshes_are_not_written(ending: str):
    box = shapes.box()
    with pytest.raises(MeshError, match="NaN"):
        io.encode_mesh(box.with_(vertices=box.vertices * np.float32(np.nan)), "a" + ending)
    with pytest.raises(MeshError, match="no faces"):
        io.encode_mesh(box.with_(faces=box.faces[:0]), "a" + ending)


def test_unknown_options_are_named():
    with pytest.raises(UsageError, match=r"\.glb"):
        io.encode_mesh(shapes.box(), "a.fbx")
    for option in ({"units": "inch"}, {"up": "x"}, {"origin": "top"}):
        with pytest.raises(UsageError, match=next(iter(option.values()))):
            io.encode_mesh(shapes.box(), "a.glb", **option)


def test_scene_transforms_are_applied(tmp_path: Path):
    scene = trimesh.Scene()
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[:3, 3] = [10, 0, 0]
    scene.add_geometry(trimesh.creation.box(), transform=mirror)
    scene.add_geometry(trimesh.creation.box(), transform=trimesh.transformations.scale_matrix(2))
    scene.export(tmp_path / "a.glb")
    mesh = io.read_mesh(tmp_path / "a.glb")
    assert len(mesh.faces) == 24 and topology.volume(mesh) == pytest.approx(9.0, rel=1e-5)
    assert mesh.vertices.max(0) == pytest.approx([10.5, 1, 1])


def test_obj_with_relative_indices(tmp_path: Path):
    """Indices that count back from the end, with texture coordinates; older exporters write them."""
    lines = ["v 0 0 0", "v 1 0 0", "v 1 1 0", "v 0 1 0", "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    (tmp_path / "a.obj").write_text("\n".join([*lines, "f -4/-4 -3/-3 -2/-2", "f -4/-4 -2/-2 -1/-1"]))
    mesh = io.read_mesh(tmp_path / "a.obj")
    assert len(mesh.faces) == 2 and topology.area(mesh) == pytest.approx(1.0)
    assert mesh.uv is not None and np.array_equal(mesh.uv, mesh.vertices[:, :2])


def test_trimesh_and_back(textured: Mesh):
    there = io.to_trimesh(textured)
    back = io.from_trimesh(there)
    for field in ("vertices", "faces", "uv", "texture"):
        assert np.array_equal(getattr(back, field), getattr(textured, field))
    assert not np.shares_memory(there.vertices, textured.vertices) and not np.shares_memory(back.faces, there.faces)
    with pytest.raises(MeshError, match="no faces"):
        io.from_trimesh(trimesh.Trimesh())


def test_texture_that_is_not_square_is_squared():
    visual = trimesh.visual.TextureVisuals(
        uv=np.array([[0, 0], [1, 0], [1, 1]]), image=Image.new("RGB", (8, 4), (9, 8, 7))
    )
    mesh = io.from_trimesh(trimesh.Trimesh(np.eye(3), [[0, 1, 2]], visual=visual, process=False))
    assert mesh.texture.shape == (8, 8, 3) and (mesh.texture == [9, 8, 7]).all()


@pytest.mark.parametrize(("shift", "stretch", "kept"), [(0, 1, True), (3, 1, True), (-2, 1, True), (0, 4, False)])
def test_uv_outside_the_page(shift: float, stretch: float, kept: bool):
    visual = trimesh.visual.TextureVisuals(uv=np.array([[0, 0], [0.5, 0], [0.5, 1]]) * stretch + shift)
    mesh = io.from_trimesh(trimesh.Trimesh(np.eye(3), [[0, 1, 2]], visual=visual, process=False))
    assert (mesh.uv is not None) == kept
    if kept:
        assert mesh.uv == pytest.approx(np.array([[0, 0], [0.5, 0], [0.5, 1]]), abs=1e-6)


@pytest.mark.parametrize(
    "uri", ["../secret.bin", "/etc/hostname", "file:///etc/hostname", "http://localhost/a.bin", "..%2Fsecret.bin"]
)
def test_side_files_outside_the_folder_are_refused(tmp_path: Path, uri: str):
    gltf, binary = document(io.encode_mesh(shapes.box(), "a.glb")["a.glb"])
    (tmp_path / "secret.bin").write_bytes(binary)
    folder = tmp_path / "in"
    folder.mkdir()
    gltf["buffers"][0]["uri"] = uri
    (folder / "a.gltf").write_text(json.dumps(gltf))
    with pytest.raises(MeshError, match="own folder"):
        io.read_mesh(folder / "a.gltf")
    (folder / "in side.bin").write_bytes(binary)
    gltf["buffers"][0]["uri"] = "in%20side.bin"
    (folder / "a.gltf").write_text(json.dumps(gltf))
    assert len(io.read_mesh(folder / "a.gltf").faces) == 12


def test_link_out_of_the_folder_is_refused(tmp_path: Path):
    gltf, binary = document(io.encode_mesh(shapes.box(), "a.glb")["a.glb"])
    (tmp_path / "secret.bin").write_bytes(binary)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    gltf["buffers"][0]["uri"] = "link.bin"
    (folder / "a.gltf").write_text(json.dumps(gltf))
    with pytest.raises(MeshError, match="own folder"):
        io.read_mesh(folder / "a.gltf")


@pytest.mark.parametrize("ending", io.READABLE)
def test_files_that_are_no_mesh_get_a_sentence(tmp_path: Path, ending: str):
    path = tmp_path / f"a{ending}"
    with pytest.raises(MeshError, match="no mesh at"):
        io.read_mesh(path)
    for content in (
        b"",
        b"\0" * 200,
        b"solid ",
        b"not a mesh at all",
        b"{}",
        b"glTF\x02\0\0\0\xff\xff\xff\xff",
        b"ply\n",
    ):
        path.write_bytes(content)
        with pytest.raises(MeshError, match="a" + ending):
            io.read_mesh(path)


def test_other_endings_and_folders(tmp_path: Path):
    with pytest.raises(MeshError, match="unknown mesh format"):
        io.read_mesh(tmp_path / "a.step")
    with pytest.raises(MeshError, match="no mesh at"):
        io.read_mesh(tmp_path / "a.glb")


def test_point_cloud_and_huge_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trimesh.PointCloud(np.random.default_rng(0).random((10, 3))).export(tmp_path / "a.ply")
    with pytest.raises(MeshError, match="point cloud"):
        io.read_mesh(tmp_path / "a.ply")
    path = save(tmp_path, io.encode_mesh(shapes.box(), "b.stl"))
    monkeypatch.setattr(io, "MAX_FACES", 5)
    with pytest.raises(MeshError, match="at most 5"):
        io.read_mesh(path)
    monkeypatch.setattr(io, "MAX_FILE_BYTES", 100)
    with pytest.raises(MeshError, match="bytes"):
        io.read_mesh(path)


@pytest.mark.parametrize("ending", ENDINGS)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_never_end_in_a_stray_error(tmp_path: Path, ending: str, data: st.DataObject):
    """Cut anywhere, bytes changed anywhere: a mesh or a MeshError, nothing else."""
    content = bytearray(next(iter(io.encode_mesh(shapes.box(), "a" + ending).values())))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{ending}"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        mesh = io.read_mesh(path)
    except MeshError as error:
        assert str(path) in str(error)
        return
    assert len(mesh.faces) and mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
