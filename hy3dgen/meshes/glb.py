"""Write one mesh as binary glTF 2.0: plain bytes, the same for the same input.

Knows the format, not where the mesh comes from. Reading is ``io.read_mesh``.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from hy3dgen.meshes.mesh import Mesh

GENERATOR = "Hunyuan3D low-VRAM (hy3dgen)"

_FLOAT, _UINT32 = 5126, 5125
_VERTICES, _INDICES = 34962, 34963
_LINEAR, _LINEAR_MIPMAP_LINEAR, _CLAMP = 9729, 9987, 33071


def encode_glb(
    mesh: Mesh,
    name: str,
    *,
    texture_png: bytes | None = None,
    extras: dict[str, Any] | None = None,
    node_scale: float = 1.0,
    node_z_up: bool = False,
) -> bytes:
    """A GLB with one node, one mesh and one opaque, rough, non-metallic material.

    mesh: with unit normals; its UVs (v up) are written as glTF wants them (v down)
    texture_png: what to embed as sRGB base colour; needs ``mesh.uv``
    extras: JSON-able, kept in ``asset.extras``; keys are sorted, so equal content gives equal bytes
    node_scale, node_z_up: put on the node as scale and as a quarter turn that points +y to +z; the vertex data stays
    as it is.
    """
    arrays: dict[str, tuple[np.ndarray, str]] = {"POSITION": (mesh.vertices.astype("<f4"), "VEC3")}
    if mesh.normals is not None:
        arrays["NORMAL"] = (mesh.normals.astype("<f4"), "VEC3")
    if mesh.uv is not None:
        flipped = np.stack([mesh.uv[:, 0], 1.0 - mesh.uv[:, 1]], 1).astype("<f4")
        arrays["TEXCOORD_0"] = (flipped, "VEC2")
    binary = bytearray()
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    attributes: dict[str, int] = {}
    for key, (array, kind) in arrays.items():
        attributes[key] = len(accessors)
        accessors.append({"bufferView": len(views), "componentType": _FLOAT, "count": len(array), "type": kind})
        if key == "POSITION":
            accessors[-1] |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        views.append(_append(binary, array.tobytes(), target=_VERTICES))
    indices = mesh.faces.astype("<u4").reshape(-1)
    accessors.append({"bufferView": len(views), "componentType": _UINT32, "count": len(indices), "type": "SCALAR"})
    views.append(_append(binary, indices.tobytes(), target=_INDICES))
    node: dict[str, Any] = {"name": name, "mesh": 0}
    if node_z_up:
        node["rotation"] = [float(np.sqrt(0.5)), 0.0, 0.0, float(np.sqrt(0.5))]
    if node_scale != 1.0:
        node["scale"] = [node_scale] * 3
    surface: dict[str, Any] = {"baseColorFactor": [1.0, 1.0, 1.0, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.9}
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"name": name, "primitives": [{
            "attributes": attributes, "indices": len(accessors) - 1, "material": 0, "mode": 4,
        }]}],
        "materials": [{"name": "surface", "pbrMetallicRoughness": surface, "alphaMode": "OPAQUE"}],
        "accessors": accessors,
        "bufferViews": views,
    }  # fmt: skip
    if extras:
        document["asset"]["extras"] = extras
    if texture_png is not None:
        surface["baseColorTexture"] = {"index": 0, "texCoord": 0}
        document["images"] = [{"name": "base colour", "bufferView": len(views), "mimeType": "image/png"}]
        document["samplers"] = [
            {"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}
        ]
        document["textures"] = [{"sampler": 0, "source": 0}]
        views.append(_append(binary, texture_png))
    document["buffers"] = [{"byteLength": len(binary)}]
    return _pack(document, bytes(binary))


def _append(binary: bytearray, data: bytes, target: int | None = None) -> dict[str, Any]:
    """Put ``data`` at the end, on a multiple of 4 bytes, and return its buffer view."""
    view: dict[str, Any] = {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)}
    if target is not None:
        view["target"] = target
    binary += data
    binary += b"\0" * (-len(binary) % 4)
    return view


def _pack(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + len(binary)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, total),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(binary), b"BIN\0"),
            binary,
        ]
    )
