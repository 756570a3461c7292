"""What makes two tasks the same: the content of their inputs, the options that shape the result, and the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import hy3dgen
from hy3dgen.errors import ImageError, MeshError
from hy3dgen.images.load import PictureSource
from hy3dgen.jobs.keep import key_of
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.task import Task
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.runtime.files import sha256_of_bytes, sha256_of_file


@dataclass(frozen=True)
class Content:
    """What a task is made from, by hash: pictures by view, the mesh, the words; names of files do not count."""

    pictures: Mapping[str, str]
    mesh: str | None
    prompt: str | None


def content_of(task: Task) -> Content:
    """Read and hash the inputs of a task, once for all its keys.

    Raises ImageError or MeshError when a file cannot be read.
    """
    pictures = {view: picture_hash(source) for view, source in task.pictures.items()}
    return Content(pictures, None if task.mesh is None else mesh_hash(task.mesh), task.prompt)


def task_key(content: Content, options: JobOptions, models: Mapping[str, str]) -> str:
    """A hash over everything that decides the result of a task."""
    made_from = (dict(content.pictures), content.mesh, content.prompt)
    return key_of(hy3dgen.__version__, *made_from, options.result_part(), dict(models))


def inputs_key(content: Content, seed: int | None) -> str:
    """A hash over what a task is made from and its seed, whatever the options: names its folder of kept stages."""
    return key_of(dict(content.pictures), content.mesh, content.prompt, seed)


def picture_hash(source: PictureSource) -> str:
    """SHA-256 of a picture's file when there is one, else of its mode, size and pixels."""
    if isinstance(source, (str, Path)):
        if Path(source).exists() and not Path(source).is_file():  # reading a pipe or a device might never end
            raise ImageError(f"'{source}' is not a file; give one picture file")
        try:
            return sha256_of_file(Path(source))
        except OSError as error:
            raise ImageError(f"cannot read '{source}': {error.strerror or error}") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return sha256_of_bytes(bytes(source))
    if isinstance(source, Image.Image):
        return sha256_of_bytes(f"{source.mode} {source.size}".encode() + source.tobytes())
    array = np.ascontiguousarray(source)
    return sha256_of_bytes(f"{array.dtype} {array.shape}".encode() + array.tobytes())


def mesh_hash(mesh: Path | Mesh) -> str:
    """SHA-256 of a mesh's file, or of its vertices, faces and UVs."""
    if isinstance(mesh, Mesh):
        uv = b"" if mesh.uv is None else mesh.uv.tobytes()
        return sha256_of_bytes(mesh.vertices.tobytes() + mesh.faces.tobytes() + uv)
    try:
        return sha256_of_file(mesh)
    except OSError as error:
        raise MeshError(f"cannot read '{mesh}': {error.strerror or error}") from error
