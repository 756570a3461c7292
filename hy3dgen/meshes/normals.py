"""Normals of faces and vertices. Knows nothing of cameras or of the axes in which a renderer works."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.topology import check_indices, merge_positions

Weighting = Literal["angle", "area", "none"]


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (F, 3) in the dtype of ``vertices``: (v1 - v0) × (v2 - v0) by its length; 0 for degenerate faces.

    The length has a floor of 1e-12, as in the reference, so normals of meshes under a micro-unit come out short.
    """
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-12).astype(cross.dtype)


def reference_vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertex normals as the reference computes them, (V, 3) float32: every face counts the same, seams stay seams.

    float32 sums in the order of the faces, divided by a float64 length; 0 where nothing or only cancelling faces meet.
    """
    total = np.zeros((len(vertices), 3), np.float32)
    np.add.at(total, faces.reshape(-1), np.repeat(face_normals(vertices.astype(np.float32), faces), 3, axis=0))
    length = np.linalg.norm(total.astype(np.float64), axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(length * total), where=length > 0).astype(np.float32)


def vertex_normals(mesh: Mesh, *, weighting: Weighting = "angle") -> np.ndarray:
    """Smooth unit normals, (V, 3) float32. Vertices at one position get one normal, so UV seams cannot be seen.

    weighting: what a face counts for: its angle at the vertex (independent of the triangulation), its area, or all
    the same. Where no direction is defined (unused vertex, degenerate faces, cancelling sides, NaN or
    infinity) the result is +y. Raises MeshError for a face with a vertex that does not exist.
    """
    check_indices(mesh)
    first, group = merge_positions(mesh.vertices)
    points = mesh.vertices.astype(np.float64)
    known = np.isfinite(points).all(axis=1)
    points[~known] = np.nan  # so that faces there have no direction, and no arithmetic warns
    span = np.abs(points[known]).max(initial=0.0)
    corners = (points / span if span > 0 else points)[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    unit = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    share = np.ones((len(mesh.faces), 3))
    if weighting == "area":
        share = np.repeat(np.nan_to_num(length), 3, axis=1)
    elif weighting == "angle":
        share = corner_angles(corners)
    total = np.empty((len(first), 3))
    target = group[mesh.faces].reshape(-1)
    for axis in range(3):
        total[:, axis] = np.bincount(target, (unit[:, axis, None] * share).reshape(-1), len(first))
    size = np.linalg.norm(total, axis=1, keepdims=True)
    smooth = np.divide(total, size, out=np.tile([0.0, 1.0, 0.0], (len(total), 1)), where=size > 1e-12)
    return smooth[group].astype(np.float32)


def corner_angles(corners: np.ndarray) -> np.ndarray:
    """Angles in radians of triangles given by (F, 3, D) corners, as (F, 3); 0 at corners of zero-length sides."""
    ahead = np.roll(corners, -1, axis=1) - corners
    behind = np.roll(corners, 1, axis=1) - corners
    cosine = np.einsum("fki,fki->fk", ahead, behind)
    lengths = np.linalg.norm(ahead, axis=2) * np.linalg.norm(behind, axis=2)
    ratio = np.divide(cosine, lengths, out=np.ones_like(cosine), where=lengths > 0)
    return np.arccos(np.clip(ratio, -1.0, 1.0))
