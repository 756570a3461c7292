"""A mesh made ready for drawing: framed in renderer space, on a device, with normals. It knows no camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from hy3dgen.errors import MeshError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import SCALE_FACTOR, frame, to_renderer_space
from hy3dgen.rendering.jit import compiled

_LARGEST = 1e18
"""Coordinates from here on have squares that float32 cannot hold."""


@dataclass(frozen=True)
class RasterMesh:
    """Triangles in renderer space (see ``cameras``); never written to after it is made.

    positions: (V, 3) float32; faces: (F, 3) int32
    uv: (U, 2) float32 with v counted down (u, 1 - v), or None; uv_faces: (F, 3) int32, or None
    scale_factor: diameter of the framing sphere, which position maps divide by
    """

    positions: torch.Tensor
    faces: torch.Tensor
    uv: torch.Tensor | None = None
    uv_faces: torch.Tensor | None = None
    scale_factor: float = SCALE_FACTOR

    @cached_property
    def normals(self) -> torch.Tensor:
        """(V, 3) float32 unweighted normals, split wherever vertices are; they point inward (see ``cameras``)."""
        normals = vertex_normals(self.positions.cpu().numpy(), self.faces.cpu().numpy())
        return torch.from_numpy(normals).to(self.positions.device)

    def to(self, device: torch.device | str) -> RasterMesh:
        """The same mesh with its tensors on another device."""
        return replace(
            self,
            positions=self.positions.to(device),
            faces=self.faces.to(device),
            uv=None if self.uv is None else self.uv.to(device),
            uv_faces=None if self.uv_faces is None else self.uv_faces.to(device),
        )


def prepare(
    vertices: np.ndarray,
    faces: np.ndarray,
    uv: np.ndarray | None = None,
    uv_faces: np.ndarray | None = None,
    *,
    scale_factor: float = SCALE_FACTOR,
    framed: bool = True,
    device: torch.device | str = "cpu",
) -> RasterMesh:
    """Copy a mesh of file space into renderer space.

    vertices: (V, 3) float; faces: (F, 3) int; uv: (U, 2) float, v up; uv_faces: (F, 3) int, ``faces`` when None
    framed: centre on the bounding box and scale to ``scale_factor``
    Raises MeshError for no faces, wrong shapes, indices outside the vertices, or vertices that are not finite.
    """
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise MeshError(
            f"expected vertices (V, 3) and at least one triangle (F, 3), got {vertices.shape}, {faces.shape}"
        )
    _check_indices(faces, len(vertices), "vertices")
    points = to_renderer_space(finite_points(vertices))
    if framed:
        points = frame(points, scale_factor)[0]
    flipped, corner_uv = None, None
    if uv is not None:
        corner_uv = faces if uv_faces is None else np.asarray(uv_faces)
        if corner_uv.shape != faces.shape:
            raise MeshError(f"{len(faces)} faces have {len(corner_uv)} faces of texture coordinates; expected as many")
        _check_indices(corner_uv, len(uv), "texture coordinates")
        down = np.array(uv, np.float32)
        down[:, 1] = np.float32(1) - down[:, 1]
        flipped = torch.from_numpy(down).to(device)
    return RasterMesh(
        torch.from_numpy(points.astype(np.float32)).to(device),
        torch.from_numpy(faces.astype(np.int32)).to(device),
        flipped,
        None if corner_uv is None else torch.from_numpy(corner_uv.astype(np.int32)).to(device),
        scale_factor,
    )


def prepare_mesh(mesh: Mesh, *, device: torch.device | str = "cpu") -> RasterMesh:
    """``prepare`` for the mesh that travels between rooms."""
    return prepare(mesh.vertices, mesh.faces, mesh.uv, device=device)


def finite_points(vertices: np.ndarray) -> np.ndarray:
    """(V, 3) float32 of any float (V, 3). Raises MeshError where one is NaN, infinite or too large for float32.

    One such vertex would leave no finite frame for all the others.
    """
    with np.errstate(over="ignore"):
        points = np.asarray(vertices).astype(np.float32)
    bad = np.flatnonzero(~(np.abs(points) < _LARGEST).all(axis=1))
    if len(bad):
        raise MeshError(
            f"{len(bad)} of {len(points)} vertices are NaN, infinite or beyond {_LARGEST:g}; "
            f"the first is number {bad[0]}, {points[bad[0]].tolist()}; clean the mesh first"
        )
    return points


def _check_indices(faces: np.ndarray, count: int, what: str) -> None:
    if faces.min() < 0 or faces.max() >= count:
        raise MeshError(f"faces point to number {faces.max()} (lowest {faces.min()}) of {count} {what}")


def vertex_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float32 unit normals: unweighted sum of unit face normals in face order; zeros where faces degenerate.

    positions: (V, 3) float32; faces: (F, 3) int. The sum is float32 in face order, its norm float64.
    """
    totals = np.zeros((len(positions), 3), np.float32)
    points = np.ascontiguousarray(positions, np.float32)
    _add_face_normals(points, np.ascontiguousarray(faces, np.int32), False, totals)
    return _unit_rows(totals)


def smooth_normals(positions: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float32 unit normals weighted by area, equal at vertices that share a position (no seams)."""
    same = welded(positions)
    totals = np.zeros((int(same.max(initial=-1)) + 1, 3), np.float32)
    points = np.ascontiguousarray(positions, np.float32)
    corners = np.ascontiguousarray(faces, np.int32)
    _add_welded_normals(points, corners, same, totals)
    return _unit_rows(totals)[same]


def welded(positions: np.ndarray) -> np.ndarray:
    """(V,) int32: one number per distinct position, so that vertices split at texture seams are one again."""
    rows = np.ascontiguousarray(positions, np.float32) + np.float32(0)  # + 0 makes -0 and 0 one
    keys = rows.view([("", np.float32)] * 3).reshape(-1)
    return np.unique(keys, return_inverse=True)[1].astype(np.int32).reshape(-1)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(length > 0, length, 1)).astype(np.float32)


@compiled
def _add_face_normals(points, faces, by_area, totals):
    for f in range(faces.shape[0]):
        a, b, c = points[faces[f, 0]], points[faces[f, 1]], points[faces[f, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        if not by_area:
            scale = max(np.float32(np.sqrt(nx * nx + ny * ny + nz * nz)), np.float32(1e-12))
            nx, ny, nz = nx / scale, ny / scale, nz / scale
        for k in range(3):
            totals[faces[f, k], 0] += nx
            totals[faces[f, k], 1] += ny
            totals[faces[f, k], 2] += nz


def _add_welded_normals(points: np.ndarray, faces: np.ndarray, same: np.ndarray, totals: np.ndarray) -> None:
    merged = np.empty((len(totals), 3), np.float32)
    merged[same] = points
    _add_face_normals(merged, np.ascontiguousarray(same[faces]), True, totals)
