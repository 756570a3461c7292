"""The reference's names for reducing a mesh file; the work is done in ``hy3dgen.meshes``."""

from __future__ import annotations

from pathlib import Path

from hy3dgen.errors import UsageError
from hy3dgen.meshes.decimate import reduce_faces
from hy3dgen.meshes.io import encode_mesh, read_mesh
from hy3dgen.runtime.files import write_atomic

__all__ = ["mesh_simplify_trimesh", "remesh_mesh"]

MANY_FACES, FEW_FACES = 100_000, 40_000


def mesh_simplify_trimesh(inputpath: str | Path, outputpath: str | Path) -> None:
    """Write the mesh of one file to another; one with more than 100,000 faces comes out with 40,000."""
    mesh = read_mesh(inputpath)
    reduced = reduce_faces(mesh, FEW_FACES) if len(mesh.faces) > MANY_FACES else mesh
    target = Path(outputpath)
    for name, data in encode_mesh(reduced, target.name, origin="keep").items():
        write_atomic(target.with_name(name), data)


def remesh_mesh(mesh_path: str | Path, remesh_path: str | Path, method: str = "trimesh") -> None:
    """``mesh_simplify_trimesh``. Raises UsageError for another method than 'trimesh'."""
    if method != "trimesh":
        raise UsageError(f"unknown method '{method}'; the only one is 'trimesh'")
    mesh_simplify_trimesh(mesh_path, remesh_path)
