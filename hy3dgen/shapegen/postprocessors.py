"""Upstream's names for cleaning and reducing meshes, on the mesh types that its callers use.

Takes ``trimesh.Trimesh``, ``trimesh.Scene`` (joined, transforms applied), a path, ``Latent2MeshOutput``, our ``Mesh``
or, when pymeshlab is installed, its ``MeshSet`` (the current mesh). Gives a ``trimesh.Trimesh``; a MeshSet or a Mesh
gives its own kind. Inputs are never changed. The work is done in ``hy3dgen.meshes``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from hy3dgen.errors import MeshError, MissingExtraError
from hy3dgen.meshes.cleanup import drop_degenerate_faces, remove_small_parts
from hy3dgen.meshes.decimate import reduce_faces
from hy3dgen.meshes.io import from_trimesh, read_mesh, to_trimesh
from hy3dgen.meshes.mesh import Mesh

__all__ = [
    "FaceReducer",
    "FloaterRemover",
    "DegenerateFaceRemover",
    "MeshSimplifier",
    "load_mesh",
    "reduce_face",
    "remove_floater",
    "pymeshlab2trimesh",
    "trimesh2pymeshlab",
    "export_mesh",
    "import_mesh",
    "mesh_normalize",
]

FLOATER_FACE_SHARE = 0.005  # of the largest part's faces; fewer are a floater
NORMALIZED_SIZE = 1.2


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """A mesh file (.glb, .gltf, .obj, .ply, .stl). Raises MeshError when it is missing, damaged or empty."""
    return read_mesh(Path(path))


def import_mesh(mesh: Any) -> Mesh:
    """Any of the accepted types as a ``Mesh`` that shares nothing with it. Raises MeshError for others."""
    if isinstance(mesh, Mesh):
        return mesh.with_(vertices=mesh.vertices.copy(), faces=mesh.faces.copy())
    if isinstance(mesh, (str, os.PathLike)):
        return load_mesh(mesh)
    if isinstance(mesh, (trimesh.Trimesh, trimesh.Scene)):
        return from_trimesh(mesh)
    if hasattr(mesh, "mesh_v") and hasattr(mesh, "mesh_f"):
        # Latent2MeshOutput, whose faces look inward
        faces = np.ascontiguousarray(np.asarray(mesh.mesh_f)[:, ::-1], dtype=np.int32)
        return Mesh(np.array(mesh.mesh_v, dtype=np.float32), faces)
    if _is_meshset(mesh):
        current = mesh.current_mesh()
        return Mesh(current.vertex_matrix().astype(np.float32), current.face_matrix().astype(np.int32))
    raise MeshError(
        f"a mesh was given as {type(mesh).__name__}; expected a trimesh.Trimesh, trimesh.Scene, Latent2MeshOutput, "
        "pymeshlab.MeshSet or a path"
    )


def export_mesh(input: Any, output: Mesh) -> Any:
    """``output`` in the kind that ``input`` has: a MeshSet or a Mesh for its own kind, else a trimesh.Trimesh."""
    if isinstance(input, Mesh):
        return output
    if _is_meshset(input):
        return trimesh2pymeshlab(output)
    # the default processing of trimesh, as if read from a file: identical vertices are merged
    plain = to_trimesh(output)
    plain.process(validate=False)
    return plain


def trimesh2pymeshlab(mesh: Any) -> Any:
    """A new ``pymeshlab.MeshSet`` with one mesh, made in memory. Raises MissingExtraError without pymeshlab."""
    try:
        import pymeshlab
    except ImportError as error:
        raise MissingExtraError(
            "a MeshSet needs pymeshlab (GPL-3); install it with: pip install pymeshlab, or work with trimesh meshes",
            package="pymeshlab",
            command="pip install pymeshlab",
        ) from error
    source = import_mesh(mesh)
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(source.vertices.astype(np.float64), source.faces))
    return meshes


def pymeshlab2trimesh(mesh: Any) -> trimesh.Trimesh:
    """The current mesh of a MeshSet as trimesh, made in memory."""
    return export_mesh(None, import_mesh(mesh))


def reduce_face(mesh: Any, max_facenum: int = 200000) -> Mesh:
    """At most about ``max_facenum`` faces, by quadric edge collapse; a smaller mesh comes back cleaned only."""
    cleaned = drop_degenerate_faces(import_mesh(mesh))
    return reduce_faces(cleaned, max_facenum) if max_facenum <= len(cleaned.faces) else cleaned


def remove_floater(mesh: Any) -> Mesh:
    """Without the parts that have fewer than 0.005 times the faces of the largest part."""
    return remove_small_parts(drop_degenerate_faces(import_mesh(mesh)), min_face_share=FLOATER_FACE_SHARE)


class FaceReducer:
    """Fewer faces for the same surface."""

    def __call__(self, mesh: Any, max_facenum: int = 40000) -> Any:
        """mesh: see the module. Returns the same kind, or a trimesh.Trimesh. Raises MeshError and UsageError."""
        return export_mesh(mesh, reduce_face(mesh, max_facenum))


class FloaterRemover:
    """Without small loose parts."""

    def __call__(self, mesh: Any) -> Any:
        """mesh: see the module. Returns the same kind, or a trimesh.Trimesh. Raises MeshError."""
        return export_mesh(mesh, remove_floater(mesh))


class DegenerateFaceRemover:
    """Without faces that repeat a vertex or touch a non-finite one."""

    def __call__(self, mesh: Any) -> Any:
        """mesh: see the module. Returns the same kind, or a trimesh.Trimesh. Raises MeshError."""
        return export_mesh(mesh, drop_degenerate_faces(import_mesh(mesh)))


class MeshSimplifier:
    """Runs an external program ``executable input.obj output.obj``; none comes with this package."""

    def __init__(self, executable: str | os.PathLike[str] | None = None) -> None:
        self.executable = executable

    def __call__(self, mesh: Any) -> trimesh.Trimesh:
        """The program's result, normalised. Raises MissingExtraError without the program, MeshError when it fails."""
        if self.executable is None or not Path(self.executable).is_file():
            raise MissingExtraError(
                f"MeshSimplifier needs an external program, and there is none at '{self.executable}'; "
                "pass executable=, or use FaceReducer, which needs none"
            )
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder) / "before.obj", Path(folder) / "after.obj"
            to_trimesh(import_mesh(mesh)).export(before)
            done = subprocess.run(
                [os.fspath(self.executable), str(before), str(after)], capture_output=True, text=True, check=False
            )
            if done.returncode != 0 or not after.is_file():
                raise MeshError(f"'{self.executable}' ended with {done.returncode}: {done.stderr.strip()[-300:]}")
            return mesh_normalize(to_trimesh(read_mesh(after)))


def mesh_normalize(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """A copy with its box centred at the origin, scaled into a sphere of diameter 1.2."""
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    if len(vertices) == 0:
        raise MeshError("the mesh has no vertices, so it cannot be normalised")
    centred = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    radius = float(np.linalg.norm(centred, axis=1).max())
    if radius == 0:
        raise MeshError("all vertices of the mesh are in one place, so it cannot be normalised")
    copy = mesh.copy()
    copy.vertices = centred * (NORMALIZED_SIZE / (2 * radius))
    return copy


def _is_meshset(mesh: Any) -> bool:
    return hasattr(mesh, "current_mesh") and hasattr(mesh, "add_mesh")
