"""Fewer faces, same shape. In memory, no files. Knows nothing of UV maps: a reduced mesh has none."""

from __future__ import annotations

import logging
from typing import Literal

import fast_simplification
import numpy as np

from hy3dgen.errors import MeshError, MissingExtraError, UsageError
from hy3dgen.meshes.cleanup import check, drop_degenerate_faces, weld
from hy3dgen.meshes.collapse import collapse_edges
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.repair import drop_folded, repair
from hy3dgen.meshes.topology import EdgeTable, compact, edge_table

logger = logging.getLogger(__name__)

Finish = Literal["auto", "pymeshlab", "none"]

# How far above the target the fast pass stops; the exact pass does the rest and is better than either alone.
_FAST_PASS = 3
# The fast pass collapses whatever costs under a threshold, in no order. Where most edges cost nothing (planes, or very
# many faces) it makes vertices with thousands of faces and then takes minutes; the exact pass takes its 10 µs a face.
_FAST_UP_TO = 2_500_000
_FLAT_SHARE, _FLAT_SINE = 0.25, 1e-3


def reduce_faces(mesh: Mesh, target_faces: int = 40000, *, finish: Finish = "auto") -> Mesh:
    """At most ``target_faces`` faces, as close to the surface as quadric errors get; a smaller mesh comes back.

    finish: how the last two thirds go. "auto" is our own exact edge collapse, "pymeshlab" the reference's library (an
        extra), "none" leaves all to fast-simplification, which is quickest. Open borders stay in place: meshes with
        some take the exact collapse from the start, or pymeshlab's; so do flat meshes and those of millions of faces.
    A mesh that is closed and manifold stays so. UV, normals and texture are dropped when faces are. Deterministic.
    When the mesh cannot be reduced so far, the log says what was reached. Raises MeshError for wrong shapes or a mesh
    without size, UsageError for a target under 4, MissingExtraError without pymeshlab.
    """
    check(mesh)
    if finish not in ("auto", "pymeshlab", "none"):
        raise UsageError(f"unknown finish '{finish}'; expected auto, pymeshlab or none")
    if target_faces < 4:
        raise UsageError(f"target_faces is {target_faces}; a closed surface needs at least 4")
    if len(mesh.faces) <= target_faces:
        return mesh
    plain = weld(drop_degenerate_faces(Mesh(mesh.vertices, mesh.faces)))[0]
    plain = compact(plain, drop_folded(plain.faces, closed=False))
    if len(plain.faces) == 0:
        raise MeshError(f"none of the {len(mesh.faces)} faces has three different finite corners; nothing to reduce")
    if len(plain.faces) <= target_faces:
        return plain
    table = edge_table(plain.faces)
    has_border = bool((table.counts == 1).any())
    points, faces, centre, span = _unit_size(plain)
    near = _FAST_PASS * target_faces
    suits_fast = not has_border and len(faces) <= _FAST_UP_TO and _flat_share(plain, table) < _FLAT_SHARE
    del table
    if suits_fast and (finish == "none" or len(faces) > 2 * near):
        if finish == "none":
            points, faces = _fast(points, faces, target_faces)
        else:
            points, faces = _fast(points, faces, near, force=(2, 2, 3))
        rough = repair(Mesh(points, faces), closed=True)
        points, faces = rough.vertices, rough.faces
    if finish == "pymeshlab":
        points, faces = _with_pymeshlab(points, faces, target_faces)
    elif len(faces) > target_faces:
        points, faces = collapse_edges(points, faces, target_faces)
    if len(faces) > target_faces:
        points, faces = _fast(points, faces, target_faces, force=(7, 7))
    vertices = (points * span + centre).astype(np.float32)
    result = repair(Mesh(vertices, np.asarray(faces, np.int32)), closed=not has_border)
    if len(result.faces) > target_faces:
        logger.warning("asked for %d faces, got %d: reducing further would tear it", target_faces, len(result.faces))
    return result


def _unit_size(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Points in a unit cube around 0 as float64, faces, and the centre and span that undo it."""
    points = mesh.vertices.astype(np.float64)
    low, high = points.min(0), points.max(0)
    centre, span = (low + high) / 2, float((high - low).max())
    if span <= 0:
        raise MeshError("all vertices of the mesh are in one place; there is no surface to reduce")
    return (points - centre) / span, np.ascontiguousarray(mesh.faces, np.int32), centre, span


def _flat_share(mesh: Mesh, table: EdgeTable, *, samples: int = 20_000) -> float:
    """Share of the edges with two faces whose faces lie in one plane, from edges spread evenly over the table."""
    pairs = table.pairs()
    pairs = pairs[:: max(1, len(pairs) // samples)]
    if len(pairs) == 0:
        return 0.0
    corners = mesh.vertices.astype(np.float64)[mesh.faces[pairs // 3]]  # (n, 2, 3 corners, xyz)
    normals = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    sine = np.linalg.norm(np.cross(normals[:, 0], normals[:, 1]), axis=1)
    return float((sine <= _FLAT_SINE * np.prod(np.linalg.norm(normals, axis=2), axis=1)).mean())


def _fast(
    points: np.ndarray, faces: np.ndarray, target: int, *, force: tuple[int, ...] = (3, 3, 3, 7, 7)
) -> tuple[np.ndarray, np.ndarray]:
    """fast-simplification, once for each ``force`` (its agg), as a gentle pass may stop early without a word."""
    for agg in force:
        if len(faces) <= target:
            break
        points, faces = fast_simplification.simplify(
            np.ascontiguousarray(points), np.ascontiguousarray(faces, np.int32), target_count=int(target), agg=agg
        )
    return np.asarray(points, np.float64), np.asarray(faces, np.int32)


def _with_pymeshlab(points: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """The reference's filter and settings. Every option is passed: the filter remembers those of the last call."""
    try:
        import pymeshlab
    except ImportError as error:
        raise MissingExtraError(
            "finish='pymeshlab' needs pymeshlab (GPL-3); install it with: pip install pymeshlab, or use finish='auto'",
            package="pymeshlab",
            command="pip install pymeshlab",
        ) from error
    meshes = pymeshlab.MeshSet()
    meshes.add_mesh(pymeshlab.Mesh(points, faces))
    meshes.meshing_decimation_quadric_edge_collapse(
        targetfacenum=int(target),
        targetperc=0.0,
        qualitythr=1.0,
        preserveboundary=True,
        boundaryweight=3.0,
        preservenormal=True,
        preservetopology=True,
        optimalplacement=True,
        planarquadric=False,
        planarweight=0.001,
        qualityweight=False,
        autoclean=True,
        selected=False,
    )
    result = meshes.current_mesh()
    return np.asarray(result.vertex_matrix(), np.float64), np.asarray(result.face_matrix(), np.int32)
