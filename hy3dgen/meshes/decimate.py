"""Fewer faces, same shape. In memory, no files. Knows nothing of UV maps: a reduced mesh has none."""

from __future__ import annotations

import logging
from typing import Literal

import fast_simplification
import numpy as np

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes.cleanup import check, drop_degenerate_faces, weld
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.repair import repair
from hy3dgen.meshes.topology import edge_table

logger = logging.getLogger(__name__)

Finish = Literal["auto", "pymeshlab", "none"]


def reduce_faces(mesh: Mesh, target_faces: int = 40000, *, finish: Finish = "auto") -> Mesh:
    """At most ``target_faces`` faces, as close to the surface as quadric errors get. A smaller mesh comes back.

    A mesh that is closed and manifold stays so. UV, normals and texture are dropped when faces are. Deterministic.
    """
    check(mesh)
    if target_faces < 4:
        raise UsageError(f"target_faces is {target_faces}; a closed surface needs at least 4")
    if len(mesh.faces) <= target_faces:
        return mesh
    plain = drop_degenerate_faces(Mesh(mesh.vertices, mesh.faces))
    plain = weld(plain)[0]
    closed = bool((edge_table(plain.faces).counts == 2).all())
    vertices, faces = _quadric_loop(plain.vertices, plain.faces, target_faces)
    return repair(Mesh(vertices, faces), closed=closed)


def _quadric_loop(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """fast-simplification down to ``target``: agg 3 up to three times, as one pass may stop early, then 7."""
    low, high = vertices.min(0), vertices.max(0)
    centre, span = (low.astype(np.float64) + high) / 2, float((high.astype(np.float64) - low).max())
    if span <= 0:
        raise MeshError("all vertices of the mesh are in one place; there is no surface to reduce")
    points = np.ascontiguousarray((vertices.astype(np.float64) - centre) / span)
    faces = np.ascontiguousarray(faces, np.int32)
    for agg in (3, 3, 3, 7, 7):
        if len(faces) <= target:
            break
        points, faces = fast_simplification.simplify(points, faces, target_count=int(target), agg=agg)
    if len(faces) > target:
        logger.warning("asked for %d faces, got %d: the mesh cannot be reduced further", target, len(faces))
    return (points * span + centre).astype(np.float32), np.asarray(faces, np.int32)
