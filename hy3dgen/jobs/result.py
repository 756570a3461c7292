"""What a finished job hands back, and how it becomes files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hy3dgen.errors import OutputError, UsageError
from hy3dgen.images.mark import marked
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.output import MESH_SUFFIXES, Target, write_files
from hy3dgen.meshes.io import encode_mesh
from hy3dgen.meshes.mesh import Mesh


@dataclass(frozen=True)
class Result:
    """A coloured mesh and how it came about.

    mesh: in file space (see ``Mesh``)
    report: the run as plain values; docs/report.schema.json describes it
    preview: (height, width, 3) uint8, sRGB, four views; None when it was switched off
    cutouts: the pictures as the model saw them, RGBA, by view name
    facts: the part of the report that repeats exactly; stored inside a GLB
    resumed: stages that were taken from an earlier run instead of being done again
    """

    mesh: Mesh
    report: dict[str, Any]
    preview: np.ndarray | None
    cutouts: Mapping[str, Image.Image]
    facts: Mapping[str, Any]
    resumed: tuple[str, ...] = ()

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write the mesh to ``path``, whose ending (.glb, .obj, .ply, .stl) chooses the format; returns the paths.

        An OBJ brings a .mtl and a .png. Raises UsageError for another ending, OutputError when a file exists and
        ``overwrite`` is off, or when it cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in MESH_SUFFIXES:
            raise UsageError(f"cannot write a mesh to '{path}'; its name must end in {', '.join(MESH_SUFFIXES)}")
        options = self.report["options"]
        files = encode_mesh(
            self.mesh,
            path.name,
            extras=dict(self.facts),
            units=options["units"],
            up=options["up"],
            origin=options["origin"],
        )
        in_the_way = [path.parent / name for name in files if (path.parent / name).exists()]
        if in_the_way and not overwrite:
            raise OutputError(f"'{in_the_way[0]}' exists already; give another name or overwrite=True")
        written = write_files({path.parent / name: ("mesh", marked(content)) for name, content in files.items()})
        return [Path(file.path) for file in written]


def encode_result(result: Result, options: JobOptions, target: Target, name: str) -> dict[Path, tuple[str, bytes]]:
    """The files of a result: path -> (role for the report, content). Nothing is written.

    name: what the object is called inside a GLB. A number in the file's name would change its bytes.
    """
    is_glb = target.mesh.suffix == ".glb"
    files = encode_mesh(
        result.mesh,
        f"{name}.glb" if is_glb else target.mesh.name,
        extras=dict(result.facts),
        units=options.units,
        up=options.up,
        origin=options.origin or "centre",
    )
    if is_glb:
        [content] = files.values()
        files = {target.mesh.name: content}
    folder = target.mesh.parent
    roles = {file: "mesh" if file == target.mesh.name else "material" for file in files}
    encoded = {folder / file: (roles[file], marked(content)) for file, content in files.items()}
    if result.preview is not None and target.preview is not None:
        encoded[target.preview] = ("preview", encode_picture(result.preview, target.preview.suffix))
    return encoded


def encode_picture(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    """An image file's bytes. pixels: (height, width, 3 or 4) uint8; suffix: '.png', '.jpg', '.jpeg' or '.webp'."""
    buffer = io.BytesIO()
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(suffix.lower(), "PNG")
    Image.fromarray(pixels).save(buffer, kind, **({"quality": 92} if kind != "PNG" else {}))
    return marked(buffer.getvalue())
