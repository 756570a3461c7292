"""How results of stages lie on disk: PNG for pictures, safetensors for exact arrays, GLB to look at."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from hy3dgen.jobs.keep import Files, Kind, as_json_file
from hy3dgen.meshes.io import encode_mesh, encode_png
from hy3dgen.meshes.mesh import Mesh

Views = Mapping[str, Image.Image]
Figures = Mapping[str, Any]


def _encode_views(views: Views) -> Files:
    return {f"cutout_{view}.png": _encode_picture(image) for view, image in views.items()}


def _decode_views(files: Files) -> Views:
    names = {name.removeprefix("cutout_").removesuffix(".png"): content for name, content in files.items()}
    return {view: _decode_picture(content) for view, content in names.items()}


def pictures_kind(stem: str) -> Kind[list[Image.Image]]:
    """Pictures in order, as STEM_00.png, STEM_01.png, …"""

    def encode(pictures: list[Image.Image]) -> Files:
        return {f"{stem}_{index:02}.png": _encode_picture(picture) for index, picture in enumerate(pictures)}

    return Kind(encode, lambda files: [_decode_picture(files[name]) for name in sorted(files)])


def _encode_picture(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _decode_picture(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def _arrays(mesh: Mesh) -> dict[str, np.ndarray]:
    named = {"vertices": mesh.vertices, "faces": mesh.faces, "uv": mesh.uv, "normals": mesh.normals}
    return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}


def _encode_mesh(made: tuple[Mesh, Figures], stem: str) -> Files:
    mesh, figures = made
    files = {f"{stem}.safetensors": save_arrays(_arrays(mesh)), f"{stem}.json": as_json_file(figures)}
    if mesh.texture is not None:
        files[f"{stem}.png"] = encode_png(mesh.texture)
    # Only to look at: UVs and normals do not come back from it bit for bit.
    files.update(encode_mesh(mesh, f"{stem}.glb", origin="keep"))
    return files


def _decode_mesh(files: Files) -> tuple[Mesh, Figures]:
    by_ending = {Path(name).suffix: content for name, content in files.items()}
    texture = None
    if ".png" in by_ending:
        texture = np.array(Image.open(io.BytesIO(by_ending[".png"])).convert("RGB"))
    return Mesh(**load_arrays(by_ending[".safetensors"]), texture=texture), json.loads(by_ending[".json"])


def _mesh_kind(stem: str) -> Kind[tuple[Mesh, Figures]]:
    return Kind(lambda made: _encode_mesh(made, stem), _decode_mesh)


VIEWS: Kind[Views] = Kind(_encode_views, _decode_views)
LATENTS: Kind[torch.Tensor] = Kind(
    lambda latents: {"latents.safetensors": save_tensors({"latents": latents.cpu().contiguous()})},
    lambda files: load_tensors(files["latents.safetensors"])["latents"],
)
MESH, UNWRAPPED, TEXTURED = _mesh_kind("mesh"), _mesh_kind("unwrapped"), _mesh_kind("textured")
