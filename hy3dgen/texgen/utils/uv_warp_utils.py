"""``mesh_uv_wrap``: the reference's name for new UVs; the work is done in ``hy3dgen.meshes.unwrap``."""

from __future__ import annotations

import trimesh

from hy3dgen.meshes.io import from_trimesh, to_trimesh
from hy3dgen.meshes.unwrap import unwrap

__all__ = ["mesh_uv_wrap"]


def mesh_uv_wrap(mesh: trimesh.Trimesh | trimesh.Scene) -> trimesh.Trimesh:
    """A new mesh with UVs (``visual.uv``); old UVs and materials are left out, a scene is joined.

    Unlike the reference's, it leaves the mesh that was given as it is. Raises MeshError for a mesh without faces.
    """
    return to_trimesh(unwrap(from_trimesh(mesh)))
