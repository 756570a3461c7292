"""How faces hang together: edges, borders, parts, volume, orientation.

Arrays in, arrays out. Functions on ``faces`` look at vertex indices only; functions on a ``Mesh`` treat vertices
at the same position as one when the mesh has a UV map, because seams split vertices without opening the surface.
This module repairs nothing but the winding; see ``repair.py`` for holes and non-manifold edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hy3dgen.meshes.mesh import Mesh


@dataclass(frozen=True)
class EdgeTable:
    """The undirected edges of a face list.

    edges: (E, 2) int64, smaller index first, in ascending order
    counts: (E,) int64 number of face sides on each edge
    side_to_edge: (3F,) int64, edge of side k of face f at 3 f + k; side k runs from corner k to corner k + 1
    forward: (3F,) bool, the side runs from the smaller to the larger index
    """

    edges: np.ndarray
    counts: np.ndarray
    side_to_edge: np.ndarray
    forward: np.ndarray


def edge_table(faces: np.ndarray) -> EdgeTable:
    """Collect the edges of (F, 3) faces. Repeated corners give edges from a vertex to itself."""
    start = faces.reshape(-1).astype(np.int64)
    end = faces[:, [1, 2, 0]].reshape(-1).astype(np.int64)
    low, high = np.minimum(start, end), np.maximum(start, end)
    base = int(high.max(initial=0)) + 1
    keys, inverse, counts = np.unique(low * base + high, return_inverse=True, return_counts=True)
    return EdgeTable(np.stack([keys // base, keys % base], 1), counts, inverse.reshape(-1), start < end)


def boundary_edges(faces: np.ndarray) -> np.ndarray:
    """Edges with exactly one face, (n, 2) int64, smaller index first."""
    table = edge_table(faces)
    return table.edges[table.counts == 1]


def non_manifold_edges(faces: np.ndarray) -> np.ndarray:
    """Edges with more than two faces, (n, 2) int64, smaller index first."""
    table = edge_table(faces)
    return table.edges[table.counts > 2]


def merge_positions(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group vertices with exactly equal coordinates (0 and -0 are equal, NaN equals nothing).

    vertices: (V, D) float, any D
    Returns (first, group): (G,) int64 lowest vertex index of each group, ascending; (V,) int64 group of each vertex.
    """
    count = len(vertices)
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    points = np.asarray(vertices, dtype=np.float64) + 0.0  # -0.0 + 0.0 = 0.0
    bits = points.view(np.uint64)
    key = np.zeros(count, np.uint64)
    for column in range(points.shape[1]):
        key = (key ^ bits[:, column]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    group = group.reshape(-1)
    if not np.array_equal(points[first[group]], points):
        # a hash collision or a NaN: take the slow exact road
        _, first, group = np.unique(points, axis=0, return_index=True, return_inverse=True, equal_nan=False)
        group = group.reshape(-1)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[group].astype(np.int64)


def joined_faces(mesh: Mesh) -> np.ndarray:
    """Faces as connectivity wants them: with a UV map, corners at one position share one index; else unchanged."""
    if mesh.uv is None:
        return mesh.faces
    first, group = merge_positions(mesh.vertices)
    return first[group][mesh.faces]


def is_watertight(mesh: Mesh) -> bool:
    """Whether there is a face and every edge has exactly two, so that nothing is open or non-manifold."""
    if len(mesh.faces) == 0:
        return False
    return bool((edge_table(joined_faces(mesh)).counts == 2).all())


def face_crosses(mesh: Mesh) -> np.ndarray:
    """(v1 - v0) × (v2 - v0) per face, (F, 3) float64: direction of the normal, length twice the area."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def face_areas(mesh: Mesh) -> np.ndarray:
    """Area per face, (F,) float64, in squared mesh units."""
    return np.linalg.norm(face_crosses(mesh), axis=1) / 2


def area(mesh: Mesh) -> float:
    """Surface area in squared mesh units; 0 for an empty mesh."""
    return float(face_areas(mesh).sum())


def face_volumes(mesh: Mesh) -> np.ndarray:
    """Signed volume between the box centre and each face, (F,) float64, positive when it looks outward."""
    if len(mesh.faces) == 0:
        return np.zeros(0)
    points = mesh.vertices.astype(np.float64)
    used = points[mesh.faces.reshape(-1)]
    corners = (points - (used.min(0) + used.max(0)) / 2)[mesh.faces]
    return np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6


def volume(mesh: Mesh) -> float:
    """Enclosed volume in cubed mesh units, negative when the mesh is inside out; meaningless with open borders."""
    return float(face_volumes(mesh).sum())


def parts_by_vertex(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Part of each face, (F,) int32: faces that share a vertex index are one part. Numbered from 0."""
    if len(faces) == 0:
        return np.zeros(0, np.int32)
    start = faces[:, [0, 1]].reshape(-1)
    end = faces[:, [1, 2]].reshape(-1)
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(num_vertices, num_vertices))
    labels = connected_components(graph, directed=False)[1][faces[:, 0]]
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int32)


def parts_by_edge(faces: np.ndarray) -> np.ndarray:
    """Part of each face, (F,) int32: faces that share an edge are one part, touching in a vertex is not enough."""
    if len(faces) == 0:
        return np.zeros(0, np.int32)
    table = edge_table(faces)
    pairs = _neighbours(table)
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(faces), len(faces)))
    return connected_components(graph, directed=False)[1].astype(np.int32)


def _neighbours(table: EdgeTable) -> np.ndarray:
    """Pairs of consecutive faces around each edge, (n, 2): one pair for two faces, k - 1 for k."""
    order = np.argsort(table.side_to_edge, kind="stable")
    same = table.side_to_edge[order[1:]] == table.side_to_edge[order[:-1]]
    return np.stack([order[:-1][same] // 3, order[1:][same] // 3], 1)


def consistent_winding(faces: np.ndarray) -> bool:
    """Whether the two faces of every manifold edge run along it in opposite directions."""
    table = edge_table(faces)
    forward = np.bincount(table.side_to_edge, weights=table.forward, minlength=len(table.edges))
    return bool((forward[table.counts == 2] == 1).all())


def orient(mesh: Mesh) -> tuple[Mesh, int]:
    """Make the winding consistent within each part, and outward.

    Closed parts get positive volume, unless they lie inside another part and were negative: that is a cavity and
    stays one. Open parts are turned only when they clearly look inwards. A one-sided part (Möbius) is left as it is.
    Returns the mesh and the number of faces turned; the same object when that is 0. Turning drops the normals.
    """
    if len(mesh.faces) == 0:
        return mesh, 0
    joined = joined_faces(mesh)
    table = edge_table(joined)
    flipped = _flips(table, len(joined))
    part = parts_by_edge(joined)
    sign = np.where(flipped, -1.0, 1.0)
    flipped ^= _inward_parts(mesh, part, sign, table)[part]
    turned = int(flipped.sum())
    if turned == 0:
        return mesh, 0
    faces = mesh.faces.copy()
    faces[flipped] = faces[flipped][:, [0, 2, 1]]
    return mesh.with_(faces=faces, normals=None), turned


def _flips(table: EdgeTable, num_faces: int) -> np.ndarray:
    """Which faces to turn so that neighbours agree, (F,) bool; keeps the majority of each part.

    Two copies of every face, as is and turned; copies that agree are connected. In an orientable part the copies fall
    into two components, each the turned twin of the other.
    """
    order = np.argsort(table.side_to_edge, kind="stable")
    manifold = table.counts[table.side_to_edge[order]] == 2
    pairs = order[manifold].reshape(-1, 2)
    first, second = pairs[:, 0] // 3, pairs[:, 1] // 3
    same_way = table.forward[pairs[:, 0]] == table.forward[pairs[:, 1]]
    if not same_way.any():
        return np.zeros(num_faces, bool)
    twin = np.where(same_way, num_faces, 0)
    start = np.concatenate([first, first + num_faces])
    end = np.concatenate([second + twin, second + num_faces - twin])
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(2 * num_faces, 2 * num_faces))
    labels = connected_components(graph, directed=False)[1]
    kept, turned = labels[:num_faces], labels[num_faces:]
    sizes = np.bincount(kept, minlength=int(labels.max()) + 1)
    ties = sizes[kept] == sizes[turned]
    return (sizes[kept] < sizes[turned]) | (ties & (kept > turned))


def _inward_parts(mesh: Mesh, part: np.ndarray, sign: np.ndarray, table: EdgeTable) -> np.ndarray:
    """Which parts look inwards and should not, (P,) bool."""
    count = int(part.max()) + 1
    crosses = face_crosses(mesh) * sign[:, None]
    areas = np.bincount(part, np.linalg.norm(crosses, axis=1) / 2, count)
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    middles = corners.mean(1)
    centre = np.stack([np.bincount(part, middles[:, axis], count) for axis in range(3)], 1)
    centre = centre / np.bincount(part, minlength=count)[:, None]
    volumes = np.bincount(part, np.einsum("fi,fi->f", middles - centre[part], crosses) / 6, count)
    open_sides = np.bincount(part, (table.counts[table.side_to_edge].reshape(-1, 3) == 1).any(1), count)
    inward: np.ndarray = volumes < np.where(open_sides > 0, -1e-3 * areas**1.5, 0.0)
    for index in np.flatnonzero(inward & (open_sides == 0)):
        point = corners[part == index][0, 0]
        inward[index] = _nesting_depth(point, corners, part, int(index)) % 2 == 0
    return inward


def _nesting_depth(point: np.ndarray, corners: np.ndarray, part: np.ndarray, own: int) -> int:
    """In how many other parts ``point`` lies, by the solid angle under which it sees each of them."""
    count = int(part.max()) + 1
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, part, corners.min(1))
    np.maximum.at(high, part, corners.max(1))
    around = ((low <= point) & (point <= high)).all(1)
    around[own] = False
    depth = 0
    for index in np.flatnonzero(around):
        a, b, c = np.moveaxis(corners[part == index] - point, 1, 0)
        la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
        triple = np.einsum("fi,fi->f", a, np.cross(b, c))
        dots = np.einsum("fi,fi->f", a, b) * lc + np.einsum("fi,fi->f", b, c) * la + np.einsum("fi,fi->f", c, a) * lb
        angle = 2 * np.arctan2(triple, la * lb * lc + dots).sum()
        depth += bool(abs(angle) > 2 * np.pi)
    return depth


def compact(mesh: Mesh, keep_faces: np.ndarray | None = None) -> Mesh:
    """Keep some faces, (F,) bool or None for all, and only the vertices that they use, in their order."""
    faces = mesh.faces if keep_faces is None else mesh.faces[keep_faces]
    used = np.zeros(len(mesh.vertices), bool)
    used[faces.reshape(-1)] = True
    if used.all():
        return mesh if keep_faces is None else mesh.with_(faces=faces)
    renumber = np.cumsum(used) - 1
    return mesh.with_(
        vertices=mesh.vertices[used],
        faces=renumber[faces].astype(np.int32).reshape(-1, 3),
        uv=None if mesh.uv is None else mesh.uv[used],
        normals=None if mesh.normals is None else mesh.normals[used],
    )
