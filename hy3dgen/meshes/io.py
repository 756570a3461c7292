"""Meshes from files and to bytes: GLB, OBJ, PLY, STL; and the way to trimesh and back.

Reading goes through trimesh, held inside the file's folder. Writing is our own, in memory and the same for the same
input; who writes the bytes to disk is the caller. Knows nothing of pipelines or reports.
"""

from __future__ import annotations

import io
import json
import logging
import struct
import zlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import trimesh
from PIL import Image
from trimesh.resolvers import Resolver

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes.cleanup import check, weld
from hy3dgen.meshes.glb import GENERATOR, encode_glb
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.normals import vertex_normals
from hy3dgen.meshes.topology import compact

logger = logging.getLogger(__name__)

READABLE = (".glb", ".gltf", ".obj", ".ply", ".stl")
WRITABLE = (".glb", ".obj", ".ply", ".stl")
MAX_FILE_BYTES = 2 << 30
MAX_FACES = 20_000_000
SMALLEST_EXTENT, LARGEST_EXTENT = 1e-9, 1e9
COMPRESSED = {"KHR_draco_mesh_compression": "Draco", "EXT_meshopt_compression": "meshopt"}

UPS = ("y", "z")
ORIGINS = ("centre", "base", "keep")
_PER_METRE = {"m": 1.0, "cm": 100.0, "mm": 1000.0}

# What trimesh and its parsers are known to raise on damaged files.
_PARSER_ERRORS = (
    ValueError, LookupError, TypeError, AttributeError, OSError, RuntimeError, AssertionError, ArithmeticError,
    MemoryError, EOFError, SyntaxError, NameError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class _FolderResolver(Resolver):
    """Hands trimesh the side files of a mesh (buffers, textures, .mtl), from the mesh's own folder only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def get(self, name: str) -> bytes:
        """Bytes of a side file. Raises MeshError when ``name`` leads out of the folder."""
        name = unquote(str(name).strip()).replace("\\", "/")
        if "://" in name or name.startswith(("/", "~")) or ":" in PurePosixPath(name).parts[:1]:
            raise MeshError(f"the mesh refers to '{name}'; only files in its own folder {self.folder} are read")
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder):
            raise MeshError(f"the mesh refers to '{name}', outside its own folder {self.folder}; copy it there")
        if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
            raise MeshError(f"{path} has {path.stat().st_size} bytes; at most {MAX_FILE_BYTES} are read")
        return path.read_bytes()

    def write(self, name: str, data: bytes) -> None:
        raise MeshError("a mesh that is being read must not write files")

    def namespaced(self, namespace: str) -> _FolderResolver:
        return _FolderResolver(self.folder / namespace)

    def keys(self) -> list[str]:
        return []


def read_mesh(path: str | Path) -> Mesh:
    """Read .glb, .gltf, .obj, .ply or .stl. All parts of a scene become one mesh, with their transforms applied.

    UV map and texture are kept (a texture that is not square is scaled to its longer side). A file with UVs outside
    one page, which a ``Mesh`` cannot hold, loses UV map and texture with a warning in the log. Files referred to must
    lie in the mesh's folder. Raises MeshError for a missing, damaged, empty or too large file.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in READABLE:
        raise MeshError(f"{path.name}: unknown mesh format '{ending}'; readable are {', '.join(READABLE)}")
    if not path.is_file():
        raise MeshError(f"no mesh at {path}; give the path of a file ({', '.join(READABLE)})")
    size = path.stat().st_size
    if size == 0 or size > MAX_FILE_BYTES:
        raise MeshError(f"{path} has {size} bytes; expected 1 to {MAX_FILE_BYTES}")
    _refuse_compressed(path)
    try:
        with path.open("rb") as stream:
            loaded = trimesh.load(stream, file_type=ending[1:], resolver=_FolderResolver(path.parent), process=False)
        flat = _one_trimesh(loaded)
        if flat is None:
            raise MeshError(
                f"{path} holds no triangles; give a mesh with a surface, not a point cloud or an empty scene"
            )
        if len(flat.faces) > MAX_FACES:
            raise MeshError(f"{path} has {len(flat.faces)} faces; at most {MAX_FACES} are read: reduce it first")
        mesh = from_trimesh(flat)
    except MeshError:
        raise
    except _PARSER_ERRORS as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MeshError(f"{path} cannot be read as {ending[1:].upper()}: {why}; export it again") from error
    if not np.isfinite(mesh.vertices[mesh.faces]).any():
        raise MeshError(f"{path}: every vertex is NaN or infinite")
    _check_extent(mesh, path)
    return weld(compact(mesh.with_(normals=None)))[0]


def _refuse_compressed(path: Path) -> None:
    """Raise MeshError for a GLB whose geometry only a decoder of its own can read: trimesh would make zeros of it."""
    with path.open("rb") as stream:
        start = stream.read(20)
        if start[:4] != b"glTF" or start[16:20] != b"JSON":
            return
        try:
            needed = json.loads(stream.read(int.from_bytes(start[12:16], "little"))).get("extensionsRequired", [])
        except (ValueError, AttributeError):
            return  # damaged; the parser says how
    found = [COMPRESSED[name] for name in needed if name in COMPRESSED]
    if found:
        raise MeshError(f"{path} is compressed with {found[0]}, which is not read here; export it without compression")


def _check_extent(mesh: Mesh, path: Path) -> None:
    """Raise MeshError for a mesh so small or large that float32 cannot compute with it."""
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    used = used[np.isfinite(used).all(1)]
    extent = float(np.ptp(used, axis=0).max()) if len(used) else 0.0
    if extent == 0:
        raise MeshError(f"{path}: all vertices are in one place, so there is no surface")
    if not SMALLEST_EXTENT < extent < LARGEST_EXTENT:
        raise MeshError(f"{path} is {extent:.2g} units across; scale it to something between 0.001 and 1000")


def _one_trimesh(loaded: Any) -> trimesh.Trimesh | None:
    """The triangles of what trimesh loaded as one mesh in world space, or None when there are none."""
    if isinstance(loaded, trimesh.Trimesh):
        return loaded if len(loaded.faces) else None
    if not isinstance(loaded, trimesh.Scene):
        return None
    parts = []
    for node in loaded.graph.nodes_geometry:
        transform, key = loaded.graph[node]
        geometry = loaded.geometry[key]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            part = geometry.copy()
            part.apply_transform(transform)  # turns the faces round when the transform is a mirror
            parts.append(part)
    if not parts:
        return None
    joined = parts[0] if len(parts) == 1 else trimesh.util.concatenate(parts)
    assert isinstance(joined, trimesh.Trimesh)
    return joined


def from_trimesh(source: trimesh.Trimesh | trimesh.Scene) -> Mesh:
    """A ``Mesh`` from trimesh's, sharing no arrays with it; scenes are joined. Normals are not taken over.

    Raises MeshError when there are no triangles.
    """
    flat = _one_trimesh(source)
    if flat is None:
        raise MeshError("the mesh has no faces; give one with a surface (a point cloud is not enough)")
    uv, texture = _page(getattr(flat.visual, "uv", None), len(flat.vertices)), None
    if uv is not None:
        image = _base_colour(getattr(flat.visual, "material", None))
        if image is not None:
            side = max(image.size)
            rgb = image.convert("RGB")
            texture = np.array(rgb if rgb.size == (side, side) else rgb.resize((side, side), Image.Resampling.LANCZOS))
    mesh = Mesh(np.array(flat.vertices, np.float32), np.array(flat.faces, np.int32), uv=uv, texture=texture)
    check(mesh)
    return mesh


def _page(uv: Any, num_vertices: int) -> np.ndarray | None:
    """UVs on the page [0, 1]², moved there when all lie on another one; None when they spread over several."""
    if uv is None or np.shape(uv) != (num_vertices, 2):
        return None
    uv = np.array(uv, np.float64)
    if not np.isfinite(uv).all():
        logger.warning("the UV map has NaN or infinite values and is left out, with its texture")
        return None
    uv -= np.floor(uv.min(0) + 1e-4)
    if uv.max() > 1 + 1e-4:
        logger.warning("the UV map repeats its texture (values up to %.3g) and is left out, with the texture", uv.max())
        return None
    return np.clip(uv, 0.0, 1.0).astype(np.float32)


def _base_colour(material: Any) -> Image.Image | None:
    image = getattr(material, "baseColorTexture", None)
    if image is None:
        image = getattr(material, "image", None)
    return image if isinstance(image, Image.Image) and min(image.size) > 0 else None


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """A ``trimesh.Trimesh`` (process=False) with copies of the arrays; texture as a rough PBR material."""
    visual = None
    if mesh.uv is not None:
        image = None if mesh.texture is None else Image.fromarray(mesh.texture)
        material = trimesh.visual.material.PBRMaterial(
            name="surface", baseColorTexture=image, metallicFactor=0.0, roughnessFactor=0.9
        )
        visual = trimesh.visual.TextureVisuals(uv=mesh.uv.copy(), material=material)
    normals = None if mesh.normals is None else mesh.normals.copy()
    return trimesh.Trimesh(
        mesh.vertices.copy(), mesh.faces.copy(), vertex_normals=normals, visual=visual, process=False, validate=False
    )


def place(mesh: Mesh, origin: str) -> Mesh:
    """Move the mesh: "centre" puts the middle of its box at 0, "base" the middle of the box's floor, "keep" nothing."""
    if origin == "keep":
        return mesh
    used = mesh.vertices[np.unique(mesh.faces)].astype(np.float64)
    low, high = used.min(0), used.max(0)
    shift = (low + high) / 2
    if origin == "base":
        shift[1] = low[1]
    return mesh.with_(vertices=(mesh.vertices - shift).astype(np.float32))


def encode_mesh(
    mesh: Mesh,
    name: str,
    *,
    extras: dict[str, Any] | None = None,
    units: str = "m",
    up: str = "y",
    origin: str = "centre",
) -> dict[str, bytes]:
    """The files of a mesh as {file name: bytes}; the main one first. Equal input gives equal bytes.

    name: main file name; its ending chooses .glb, .obj (with .mtl and texture .png beside it), .ply or .stl
    extras: for the GLB's ``asset.extras`` (ignored by the other formats, which have no such place)
    units: one mesh unit is one metre; "cm" and "mm" give coordinates 100 and 1000 times as large
    up: "z" turns the model so that its top points to +z
    origin: see ``place``
    The vertex data of a GLB stay in metres and y up, as glTF demands; units and up become the scale and the rotation of
    its one node, so a program sees the same coordinates in every format. PLY gets vertex colours from the texture, STL
    the bare surface. Missing normals are computed, smooth across UV seams.
    Raises MeshError for an empty mesh or NaN, UsageError for an unknown ending or option.
    """
    ending = Path(name).suffix.lower()
    if ending not in WRITABLE:
        raise UsageError(f"'{name}': cannot write '{ending}'; the endings are {', '.join(WRITABLE)}")
    for option, value, known in (
        ("units", units, tuple(_PER_METRE)), ("up", up, UPS), ("origin", origin, ORIGINS),
    ):  # fmt: skip
        if value not in known:
            raise UsageError(f"{option} is '{value}'; expected one of {', '.join(known)}")
    mesh = _writable(mesh, origin)
    stem = Path(name).name[: -len(ending)]
    if ending == ".glb":
        png = None if mesh.texture is None or mesh.uv is None else encode_png(mesh.texture)
        data = encode_glb(mesh, stem, texture_png=png, extras=extras, node_scale=_PER_METRE[units], node_z_up=up == "z")
        return {Path(name).name: data}
    mesh = _in_file_axes(mesh, _PER_METRE[units], up)
    if ending == ".obj":
        return _encode_obj(mesh, stem)
    return {Path(name).name: _encode_ply(mesh) if ending == ".ply" else _encode_stl(mesh)}


def _writable(mesh: Mesh, origin: str) -> Mesh:
    """Checked, without unused vertices, in place, with normals."""
    check(mesh)
    mesh = compact(mesh)
    for what, array in (("vertices", mesh.vertices), ("UVs", mesh.uv), ("normals", mesh.normals)):
        if array is not None and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).any(1).sum())
            raise MeshError(f"{bad} of {len(array)} {what} are NaN or infinite; clean the mesh before writing it")
    mesh = place(mesh, origin)
    return mesh if mesh.normals is not None else mesh.with_(normals=vertex_normals(mesh))


def _in_file_axes(mesh: Mesh, scale: float, up: str) -> Mesh:
    """Scaled, and turned a quarter about x for z up."""
    assert mesh.normals is not None
    vertices, normals = mesh.vertices * np.float32(scale), mesh.normals
    if up == "z":
        vertices, normals = (np.stack([a[:, 0], -a[:, 2], a[:, 1]], 1) + np.float32(0) for a in (vertices, normals))
    return mesh.with_(vertices=vertices, normals=normals)


def encode_png(texture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 sRGB as PNG."""
    # level 4 takes a third of the time of level 6 for files 7 % larger
    done, data = cv2.imencode(".png", np.ascontiguousarray(texture[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 4])
    if not done:
        raise MeshError(f"a texture of shape {texture.shape} and type {texture.dtype} cannot be written as PNG")
    return data.tobytes()


def _encode_obj(mesh: Mesh, stem: str) -> dict[str, bytes]:
    assert mesh.normals is not None
    # loaders split the lines of an OBJ at blanks, so side files get names without them
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
    textured = mesh.texture is not None and mesh.uv is not None
    lines = [f"# {GENERATOR}", f"mtllib {safe}.mtl", f"o {safe}", "usemtl surface"]
    lines += _lines("v %.9g %.9g %.9g", mesh.vertices)
    if mesh.uv is not None:
        lines += _lines("vt %.9g %.9g", mesh.uv)
    lines += _lines("vn %.6g %.6g %.6g", mesh.normals)
    corner = "%d/%d/%d" if mesh.uv is not None else "%d//%d"
    repeat = 3 if mesh.uv is not None else 2
    lines += _lines(f"f {corner} {corner} {corner}", np.repeat(mesh.faces + 1, repeat, axis=1))
    material = [f"# {GENERATOR}", "newmtl surface", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "d 1", "illum 1"]
    files = {f"{stem}.obj": ("\n".join(lines) + "\n").encode()}
    if textured:
        material.append(f"map_Kd {safe}_texture.png")
        files[f"{safe}_texture.png"] = encode_png(np.asarray(mesh.texture))
    files[f"{safe}.mtl"] = ("\n".join(material) + "\n").encode()
    return files


def _lines(pattern: str, rows: np.ndarray) -> list[str]:
    return [pattern % tuple(row) for row in rows.tolist()]


def vertex_colours(mesh: Mesh) -> np.ndarray | None:
    """The texture at each vertex, bilinear between texel centres, (V, 3) uint8; None without UV map or texture."""
    if mesh.texture is None or mesh.uv is None:
        return None
    height, width = mesh.texture.shape[:2]
    column = np.clip(mesh.uv[:, 0].astype(np.float64) * width - 0.5, 0, width - 1)
    row = np.clip((1.0 - mesh.uv[:, 1].astype(np.float64)) * height - 0.5, 0, height - 1)
    c0, r0 = column.astype(np.int64), row.astype(np.int64)
    c1, r1 = np.minimum(c0 + 1, width - 1), np.minimum(r0 + 1, height - 1)
    right, down = (column - c0)[:, None], (row - r0)[:, None]
    texture = mesh.texture
    upper = texture[r0, c0] * (1 - right) + texture[r0, c1] * right
    lower = texture[r1, c0] * (1 - right) + texture[r1, c1] * right
    return np.round(upper * (1 - down) + lower * down).astype(np.uint8)


def _encode_ply(mesh: Mesh) -> bytes:
    assert mesh.normals is not None
    fields: list[tuple[str, str, np.ndarray]] = [(n, "<f4", mesh.vertices[:, i]) for i, n in enumerate("xyz")]
    fields += [(f"n{n}", "<f4", mesh.normals[:, i]) for i, n in enumerate("xyz")]
    colours = vertex_colours(mesh)
    if colours is not None:
        fields += [(n, "u1", colours[:, i]) for i, n in enumerate(("red", "green", "blue"))]
    names = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"comment {GENERATOR}", f"element vertex {len(mesh.vertices)}"]
    header += [f"property {names[kind]} {name}" for name, kind, _ in fields]
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header"]
    vertices = np.empty(len(mesh.vertices), [(name, kind) for name, kind, _ in fields])
    for name, _, column in fields:
        vertices[name] = column
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    return ("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes()


def _encode_stl(mesh: Mesh) -> bytes:
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    rows = np.zeros(len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["normal"] = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    rows["corners"] = corners
    buffer = io.BytesIO()
    buffer.write(GENERATOR.encode().ljust(80, b" "))
    buffer.write(struct.pack("<I", len(rows)))
    buffer.write(rows.tobytes())
    return buffer.getvalue()
