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


def parts_by_edge(faces: np.ndarray, table: EdgeTable | None = None) -> np.ndarray:
    """Part of each face, (F,) int32: faces that share an edge are one part, touching in a vertex is not enough.

    table: of these faces, when the caller has it already.
    """
    if len(faces) == 0:
        return np.zeros(0, np.int32)
    pairs = _neighbours(table or edge_table(faces))
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(faces), len(faces)))
    return connected_components(graph, directed=False)[1].astype(np.int32)


def open_parts(table: EdgeTable, part: np.ndarray) -> np.ndarray:
    """Which parts have an edge with a single face, (P,) bool."""
    lonely = table.counts[table.side_to_edge] == 1
    return np.bincount(part[np.flatnonzero(lonely) // 3], minlength=int(part.max()) + 1) > 0


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
    turned = disagreeing_faces(table)
    part = parts_by_edge(joined, table)
    turned ^= _inward_parts(mesh, part, np.where(turned, -1.0, 1.0), table)[part]
    return turn(mesh, turned), int(turned.sum())


def turn(mesh: Mesh, which: np.ndarray) -> Mesh:
    """Reverse the winding of some faces, (F,) bool. The same object when there are none; else without normals."""
    if not which.any():
        return mesh
    faces = mesh.faces.copy()
    faces[which] = faces[which][:, [0, 2, 1]]
    return mesh.with_(faces=faces, normals=None)


def disagreeing_faces(table: EdgeTable) -> np.ndarray:
    """Which faces to turn so that neighbours agree, (F,) bool; keeps the majority of each part.

    Two copies of every face, as is and turned; copies that agree are connected. In an orientable part the copies fall
    into two components, each the turned twin of the other.
    """
    num_faces = len(table.side_to_edge) // 3
    forward = np.bincount(table.side_to_edge, weights=table.forward, minlength=len(table.edges))
    if (forward[table.counts == 2] == 1).all():
        return np.zeros(num_faces, bool)
    order = np.argsort(table.side_to_edge, kind="stable")
    pairs = order[table.counts[table.side_to_edge[order]] == 2].reshape(-1, 2)
    first, second = pairs[:, 0] // 3, pairs[:, 1] // 3
    twin = np.where(table.forward[pairs[:, 0]] == table.forward[pairs[:, 1]], num_faces, 0)
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
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * sign[:, None]
    middles = corners.mean(1)
    sums = np.stack([np.bincount(part, middles[:, axis], count) for axis in range(3)], 1)
    centre = sums / np.bincount(part, minlength=count)[:, None]
    volumes = np.bincount(part, np.einsum("fi,fi->f", middles - centre[part], crosses) / 6, count)
    closed = ~open_parts(table, part)
    inward = np.zeros(count, bool)
    if not closed.all():
        areas = np.bincount(part, np.linalg.norm(crosses, axis=1) / 2, count)
        inward = ~closed & (volumes < -1e-3 * areas**1.5)
    # Solids and cavities have opposite signs; which sign the solids have, the bulk of the volume says.
    inside_out = bool(volumes[closed].sum() < 0)
    odd = closed & ((volumes > 0) if inside_out else (volumes < 0))
    inward |= closed & inside_out
    low, high = corners.min(1), corners.max(1)
    solid = closed[part]
    for index in np.flatnonzero(odd):
        face = corners[np.argmax(part == index)]
        others = solid & (part != index)
        cavity = _depth(np.array([0.41, 0.32, 0.27]) @ face, corners, low, high, part, others) % 2 == 1
        inward[index] = inside_out if cavity else not inside_out
    return inward


def _depth(
    point: np.ndarray, corners: np.ndarray, low: np.ndarray, high: np.ndarray, part: np.ndarray, others: np.ndarray
) -> int:
    """In how many of the ``others``, (F,) bool, the point lies: parts that a ray towards +x crosses oddly often.

    low, high: boxes of the faces, (F, 3)
    """
    hit = others & (low[:, 1] <= point[1]) & (point[1] <= high[:, 1])
    hit &= (low[:, 2] <= point[2]) & (point[2] <= high[:, 2]) & (high[:, 0] >= point[0])
    a, b, c = np.moveaxis(corners[hit] - point, 1, 0)
    weights = np.stack([u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1] for u, v in ((b, c), (c, a), (a, b))])
    through = (weights > 0).all(0) | (weights < 0).all(0)
    reach = weights[0] * a[:, 0] + weights[1] * b[:, 0] + weights[2] * c[:, 0]
    ahead = reach * weights.sum(0) > 0
    return int((np.bincount(part[hit][through & ahead], minlength=1) % 2 == 1).sum())


def compact(mesh: Mesh, keep_faces: np.ndarray | None = None) -> Mesh:
    """Keep some faces, (F,) bool or None for all, and only the vertices that they use, in their order."""
    if keep_faces is not None and keep_faces.all():
        keep_faces = None
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
