"""Analytic test shapes and exact-enough distances between surfaces, for the geometry benchmark.

The figurine is one smooth signed field, so its surface is known everywhere: capsules joined smoothly, a relief, a thin
fin, a hole through the body, and small floaters around it.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from hy3dgen.meshes import topology
from hy3dgen.meshes.mesh import Mesh

_LIMBS = (
    # from, to, radius
    ((0.0, -0.35, 0.0), (0.0, 0.3, 0.0), 0.28),
    ((0.0, 0.55, 0.03), (0.0, 0.62, 0.03), 0.2),
    ((-0.2, 0.28, 0.0), (-0.6, 0.0, 0.12), 0.09),
    ((0.2, 0.28, 0.0), (0.55, 0.5, -0.05), 0.09),
    ((-0.14, -0.45, 0.0), (-0.2, -0.88, 0.05), 0.11),
    ((0.14, -0.45, 0.0), (0.2, -0.88, -0.05), 0.11),
)
_EXTENT = 1.01


def figurine_field(x: np.ndarray, y: np.ndarray, z: np.ndarray, *, floaters: int = 25) -> np.ndarray:
    """Field of the figurine, negative inside, in the dtype of ``x``; broadcasts. Lies within [-1, 1]³."""
    body = np.full(np.broadcast_shapes(x.shape, y.shape, z.shape), np.inf, x.dtype)
    for start, end, radius in _LIMBS:
        body = _smooth_min(body, _capsule(x, y, z, start, end) - x.dtype.type(radius), 0.08)
    gyroid = np.sin(18 * x) * np.cos(18 * y) + np.sin(18 * y) * np.cos(18 * z) + np.sin(18 * z) * np.cos(18 * x)
    body = body + x.dtype.type(0.012) * gyroid
    fin = np.maximum(np.maximum(np.abs(x) - 0.012, np.abs(y - 0.1) - 0.35), np.maximum(-0.5 - z, z + 0.15))
    body = _smooth_min(body, fin, 0.02)
    body = np.maximum(body, 0.09 - np.hypot(x, y + 0.05))
    spots = np.random.default_rng(7).uniform(-0.92, 0.92, (floaters * 8, 3))
    away = [p for p in spots if _far_from_limbs(p)][:floaters]
    for index, spot in enumerate(away):
        radius = 0.012 + 0.001 * (index % 8)
        body = np.minimum(body, np.sqrt((x - spot[0]) ** 2 + (y - spot[1]) ** 2 + (z - spot[2]) ** 2) - radius)
    return np.asarray(body, x.dtype)


def _far_from_limbs(point: np.ndarray) -> bool:
    x, y, z = (np.array(value) for value in point)
    return all(_capsule(x, y, z, start, end) > radius + 0.12 for start, end, radius in _LIMBS)


def _capsule(x: np.ndarray, y: np.ndarray, z: np.ndarray, start: tuple, end: tuple) -> np.ndarray:
    axis = np.subtract(end, start)
    along = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1] + (z - start[2]) * axis[2]) / float(axis @ axis)
    along = np.clip(along, 0, 1)
    return np.sqrt(
        (x - start[0] - along * axis[0]) ** 2
        + (y - start[1] - along * axis[1]) ** 2
        + (z - start[2] - along * axis[2]) ** 2
    ).astype(x.dtype)


def _smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    mix = np.maximum(width - np.abs(a - b), 0) / width
    return np.minimum(a, b) - mix * mix * (width / 4)


def figurine_grid(resolution: int) -> np.ndarray:
    """The field on a cube of (resolution + 1)³ points over [-1.01, 1.01], float32, axes x y z."""
    line = np.linspace(-_EXTENT, _EXTENT, resolution + 1, dtype=np.float32)
    slabs = [figurine_field(line[i : i + 16, None, None], line[None, :, None], line[None, None, :])
             for i in range(0, resolution + 1, 16)]  # fmt: skip
    return np.concatenate(slabs)


def mesh_of_grid(grid: np.ndarray) -> Mesh:
    """Iso-surface at 0 of a ``figurine_grid`` by scikit-image, outward."""
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(grid, 0.0)
    scale = 2 * _EXTENT / (len(grid) - 1)
    return Mesh((vertices * scale - _EXTENT).astype(np.float32), faces.astype(np.int32))


def split_faces(mesh: Mesh) -> Mesh:
    """Every face cut into four at the middles of its edges; the shape stays."""
    table = topology.edge_table(mesh.faces)
    middles = mesh.vertices[table.edges].mean(1, dtype=np.float32)
    corner = mesh.faces
    middle = (table.side_to_edge.reshape(-1, 3) + len(mesh.vertices)).astype(np.int32)
    parts = [np.stack([corner[:, k], middle[:, k], middle[:, k - 1]], 1) for k in range(3)]
    return Mesh(np.concatenate([mesh.vertices, middles]), np.concatenate([*parts, middle]))


def sample_surface(mesh: Mesh, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly over the area, (count, 3) float64, and the face of each, (count,)."""
    draw = np.random.default_rng(seed)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = np.minimum(np.searchsorted(np.cumsum(areas), draw.random(count) * areas.sum()), len(areas) - 1)
    u, v = np.sqrt(draw.random((count, 1))), draw.random((count, 1))
    picked = corners[face]
    return picked[:, 0] * (1 - u) + picked[:, 1] * (u * (1 - v)) + picked[:, 2] * (u * v), face


def distance_to_mesh(points: np.ndarray, mesh: Mesh, *, candidates: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Distance of points (N, 3) to the surface, (N,), and the nearest face, (N,).

    Exact distance to the ``candidates`` faces whose sampled points lie nearest: right for compact triangles, an upper
    bound next to long needles.
    """
    # coarse meshes have long faces whose middle may be far from the point, fine ones do not
    seeds, owner = sample_surface(mesh, min(4 * len(mesh.faces), 200_000), 11)
    middles = mesh.vertices.astype(np.float64)[mesh.faces].mean(1)
    tree = cKDTree(np.concatenate([middles, seeds]))
    owner = np.concatenate([np.arange(len(mesh.faces)), owner])
    best = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), np.int64)
    _, close = tree.query(points, k=min(candidates, len(owner)), workers=2)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    for column in range(close.shape[1]):
        face = owner[close[:, column]]
        squared = _squared_to_triangle(points, corners[face])
        better = squared < best
        best[better], nearest[better] = squared[better], face[better]
    return np.sqrt(best), nearest


def _squared_to_triangle(p: np.ndarray, tri: np.ndarray) -> np.ndarray:
    """Squared distance of point i to triangle i."""
    result = np.full(len(p), np.inf)
    for k in range(3):
        a, b = tri[:, k], tri[:, (k + 1) % 3]
        side = b - a
        size = np.einsum("ni,ni->n", side, side)
        t = np.clip(np.einsum("ni,ni->n", p - a, side) / np.where(size > 0, size, 1), 0, 1)
        gap = p - a - t[:, None] * side
        result = np.minimum(result, np.einsum("ni,ni->n", gap, gap))
    normal = np.cross(tri[:, 1] - tri[:, 0], tri[:, 2] - tri[:, 0])
    size = np.einsum("ni,ni->n", normal, normal)
    inside = size > 0
    for k in range(3):
        side = np.cross(tri[:, (k + 1) % 3] - tri[:, k], p - tri[:, k])
        inside &= np.einsum("ni,ni->n", side, normal) >= 0
    height = np.einsum("ni,ni->n", p - tri[:, 0], normal) ** 2 / np.where(size > 0, size, 1)
    return np.where(inside, height, result)


def compare(mesh: Mesh, truth: Mesh, *, count: int = 50_000) -> dict[str, float]:
    """Two-sided distances in 1e-4 of the truth's box diagonal and the mean angle between the normals there."""
    diagonal = float(np.linalg.norm(np.ptp(truth.vertices.astype(np.float64), axis=0)))
    there, back = sample_surface(mesh, count, 1), sample_surface(truth, count, 2)
    d_there, f_there = distance_to_mesh(there[0], truth)
    d_back, f_back = distance_to_mesh(back[0], mesh)
    n_mesh, n_truth = _unit_normals(mesh), _unit_normals(truth)
    cosine = np.concatenate([(n_mesh[there[1]] * n_truth[f_there]).sum(1), (n_truth[back[1]] * n_mesh[f_back]).sum(1)])
    return {
        "chamfer": round(float((d_there.mean() + d_back.mean()) / 2 / diagonal * 1e4), 4),
        "hausdorff": round(float(max(d_there.max(), d_back.max()) / diagonal * 1e4), 3),
        "normal_error_deg": round(float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean()), 3),
    }


def _unit_normals(mesh: Mesh) -> np.ndarray:
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-300)
