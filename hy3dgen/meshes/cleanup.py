"""Take out of a mesh what is not surface: broken faces, copies, floating parts; and turn what is left outward.

Pure array work, no files. Does not change the shape of what it keeps; ``decimate.py`` does that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from hy3dgen.errors import MeshError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.repair import drop_folded, fill_holes
from hy3dgen.meshes.topology import (
    check_indices,
    compact,
    disagreeing_faces,
    edge_table,
    face_areas,
    face_volumes,
    faces_without_area,
    is_watertight,
    joined_faces,
    merge_positions,
    open_parts,
    orient,
    parts_by_edge,
    parts_by_vertex,
    turn,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanReport:
    """What ``clean`` took out or changed, as counts; ``volume_removed_share`` is of all parts together, 0 to 1."""

    nonfinite_faces: int = 0
    degenerate_faces: int = 0
    duplicate_faces: int = 0
    welded_vertices: int = 0
    unreferenced_vertices: int = 0
    parts: int = 0
    parts_removed: int = 0
    faces_removed_with_parts: int = 0
    volume_removed_share: float = 0.0
    faces_turned: int = 0
    holes_filled: int = 0
    watertight: bool = False


def check(mesh: Mesh) -> None:
    """Raise MeshError unless the arrays have the shapes that ``Mesh`` promises and every face index exists."""
    if mesh.vertices.ndim != 2 or mesh.vertices.shape[1] != 3:
        raise MeshError(f"vertices have shape {mesh.vertices.shape}; expected (V, 3)")
    if mesh.faces.ndim != 2 or mesh.faces.shape[1] != 3:
        raise MeshError(f"faces have shape {mesh.faces.shape}; expected (F, 3): triangulate the mesh first")
    if len(mesh.faces) == 0:
        raise MeshError("the mesh has no faces; give one with a surface (a point cloud is not enough)")
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= len(mesh.vertices):
        wrong = low if low < 0 else high
        raise MeshError(
            f"a face uses vertex {wrong}, but there are {len(mesh.vertices)} (0 to {len(mesh.vertices) - 1})"
        )
    for name, array, width in (("uv", mesh.uv, 2), ("normals", mesh.normals, 3)):
        if array is not None and array.shape != (len(mesh.vertices), width):
            raise MeshError(f"{name} have shape {array.shape}; expected ({len(mesh.vertices)}, {width})")


def drop_degenerate_faces(mesh: Mesh) -> Mesh:
    """Without faces that repeat a vertex index or touch a NaN or infinite vertex, and without vertices nobody uses.

    These are the reference's DegenerateFaceRemover rules: faces without area but with three indices stay, and so
    do copies of a face. Returns an empty mesh when nothing is left.
    """
    check_indices(mesh)
    faces = mesh.faces
    keep = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return compact(mesh, keep & _finite_faces(mesh))


def _finite_faces(mesh: Mesh) -> np.ndarray:
    """(F,) bool: faces without a NaN or infinite vertex."""
    finite = np.isfinite(mesh.vertices)
    if finite.all():
        return np.ones(len(mesh.faces), bool)
    return np.asarray(finite.all(1)[mesh.faces].all(1))


def remove_small_parts(mesh: Mesh, *, min_face_share: float = 0.005) -> Mesh:
    """Without the parts that have fewer than ``min_face_share`` times the faces of the largest part.

    These are the reference's FloaterRemover rules: parts hang together by edges between vertex indices, a part of
    exactly the share stays, and a soup of single triangles loses nothing. Vertices that no face used before stay.
    """
    check_indices(mesh)
    if len(mesh.faces) == 0:
        return mesh
    part = parts_by_edge(mesh.faces)
    sizes = np.bincount(part)
    keep = (sizes >= min_face_share * sizes.max())[part]
    if keep.all():
        return mesh
    gone = np.zeros(len(mesh.vertices), bool)
    gone[mesh.faces[~keep].reshape(-1)] = True
    gone[mesh.faces[keep].reshape(-1)] = False
    renumber = np.cumsum(~gone) - 1
    return mesh.with_(
        vertices=mesh.vertices[~gone],
        faces=renumber[mesh.faces[keep]].astype(np.int32),
        uv=None if mesh.uv is None else mesh.uv[~gone],
        normals=None if mesh.normals is None else mesh.normals[~gone],
    )


def weld(mesh: Mesh) -> tuple[Mesh, int]:
    """Join vertices with the same position (and the same UV, where there is one). Returns (mesh, vertices saved)."""
    check_indices(mesh)
    keys = mesh.vertices if mesh.uv is None else np.concatenate([mesh.vertices, mesh.uv], 1)
    first, group = merge_positions(keys)
    saved = len(mesh.vertices) - len(first)
    if saved == 0:
        return mesh, 0
    return (
        mesh.with_(
            vertices=mesh.vertices[first],
            faces=group[mesh.faces].astype(np.int32),
            uv=None if mesh.uv is None else mesh.uv[first],
            normals=None if mesh.normals is None else mesh.normals[first],
        ),
        saved,
    )


def clean(mesh: Mesh, *, min_part_volume_share: float = 0.01, max_hole_edges: int = 0) -> tuple[Mesh, CleanReport]:
    """A mesh of finite, distinct, outward faces without floating crumbs, and what it took.

    min_part_volume_share: closed parts with less than this share of the volume of the largest closed part are removed,
        open ones with less than this share of the area of the largest part. So a model of many equal pieces stays. 0
        keeps all.
    max_hole_edges: fill holes of up to so many edges; 0 leaves them.
    Vertices at one position are joined. Cleaning twice changes nothing more. A face without area is removed where
    that opens nothing. Raises MeshError for wrong shapes or indices, or when no face is left.
    """
    check(mesh)
    num_vertices, num_faces = len(mesh.vertices), len(mesh.faces)
    mesh = compact(mesh, _finite_faces(mesh))
    nonfinite = num_faces - len(mesh.faces)
    if len(mesh.faces) == 0:
        raise MeshError(f"all {num_faces} faces touch a vertex that is NaN or infinite; there is no surface to keep")
    unreferenced = num_vertices - len(mesh.vertices)
    mesh, welded = weld(mesh)
    mesh, degenerate, duplicate = _drop_broken(mesh)
    if len(mesh.faces) == 0:
        raise MeshError(f"all {num_faces} faces are degenerate (no area); there is no surface to keep")
    left = len(mesh.faces)
    mesh, parts, removed, share = _drop_crumbs(mesh, min_part_volume_share)
    crumbs = left - len(mesh.faces)
    mesh, turned = orient(mesh)
    holes = 0
    if max_hole_edges:
        mesh, holes = fill_holes(mesh, max_edges=max_hole_edges)
    report = CleanReport(
        nonfinite_faces=nonfinite,
        degenerate_faces=degenerate,
        duplicate_faces=duplicate,
        welded_vertices=welded,
        unreferenced_vertices=unreferenced,
        parts=parts,
        parts_removed=removed,
        faces_removed_with_parts=crumbs,
        volume_removed_share=share,
        faces_turned=turned,
        holes_filled=holes,
        watertight=is_watertight(mesh),
    )
    return mesh, report


def _drop_broken(mesh: Mesh) -> tuple[Mesh, int, int]:
    """Drop faces with repeated corners, copies of a face, and faces without area if the mesh is open anyway."""
    faces = mesh.faces
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    before = len(faces)
    mesh = compact(mesh, whole)
    degenerate = before - len(mesh.faces)
    before = len(mesh.faces)
    mesh = compact(mesh, drop_folded(mesh.faces, closed=False))
    duplicate = before - len(mesh.faces)
    flat = faces_without_area(mesh, threshold=1e-14)
    if flat.any() and not is_watertight(mesh):
        # in a closed mesh a flat face between its neighbours is what keeps it closed
        mesh = compact(mesh, ~flat)
        degenerate += int(flat.sum())
    return mesh, degenerate, duplicate


def _drop_crumbs(mesh: Mesh, min_share: float) -> tuple[Mesh, int, int, float]:
    """Drop parts under ``min_share``. Returns mesh, parts before, parts removed, share of the volume removed."""
    joined = joined_faces(mesh)
    part = parts_by_vertex(joined, len(mesh.vertices))
    count = int(part.max()) + 1
    if count == 1:
        return mesh, 1, 0, 0.0
    table = edge_table(joined)
    volumes = np.abs(np.bincount(part, face_volumes(turn(mesh, disagreeing_faces(table))), count))
    areas = np.bincount(part, face_areas(mesh), count)
    is_open = open_parts(table, part)
    volumes[is_open] = 0.0
    keep = np.where(is_open, areas >= min_share * areas.max(), volumes >= min_share * volumes.max())
    keep[np.argmax(areas)] = True
    if keep.all():
        return mesh, count, 0, 0.0
    gone = float(volumes[~keep].sum() / volumes.sum()) if volumes.any() else 0.0
    return compact(mesh, keep[part]), count, int((~keep).sum()), gone
