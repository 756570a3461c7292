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

from hy3dgen.errors import MeshError
from hy3dgen.meshes import adjacency
from hy3dgen.meshes.mesh import Mesh


@dataclass(frozen=True)
class EdgeTable:
    """The undirected edges of a face list.

    edges: (E, 2) int64, smaller index first, in ascending order
    counts: (E,) int32 number of face sides on each edge
    side_to_edge: (3F,) int32, edge of side k of face f at 3 f + k; side k runs from corner k to corner k + 1
    forward: (3F,) bool, the side runs from the smaller to the larger index
    order: (3F,) int32, the sides by edge, those of one edge in ascending order
    """

    edges: np.ndarray
    counts: np.ndarray
    side_to_edge: np.ndarray
    forward: np.ndarray
    order: np.ndarray

    def pairs(self) -> np.ndarray:
        """The two sides of every edge that has exactly two, (n, 2) int32, in the order of the edges."""
        two = self.counts == 2
        starts = (np.cumsum(self.counts) - self.counts)[two]
        return np.stack([self.order[starts], self.order[starts + 1]], 1)


def edge_table(faces: np.ndarray) -> EdgeTable:
    """Collect the edges of (F, 3) faces. Repeated corners give edges from a vertex to itself.

    Raises MeshError for negative indices, and from 715 million faces on.
    """
    faces, num_vertices = _indices(faces)
    order = adjacency.sides_by_edge(faces, num_vertices)
    side_to_edge, forward = np.empty(len(order), np.int32), np.empty(len(order), np.bool_)
    count = adjacency.number_edges(faces, order, side_to_edge, forward)
    edges, counts = np.empty((count, 2), np.int64), np.zeros(count, np.int32)
    adjacency.list_edges(faces, order, edges, counts)
    return EdgeTable(edges, counts, side_to_edge, forward, order)


def _indices(faces: np.ndarray) -> tuple[np.ndarray, int]:
    """Faces as the compiled loops want them, and one more than the highest index."""
    if len(faces) == 0:
        return np.zeros((0, 3), np.int32), 0
    if faces.min() < 0 or faces.max() >= 2**31 - 1 or 3 * len(faces) >= 2**31:
        raise MeshError(
            f"{len(faces)} faces with vertex indices from {faces.min()} to {faces.max()}; "
            "expected indices from 0 to 2147483646 and at most 715 million faces"
        )
    return np.ascontiguousarray(faces, np.int32), int(faces.max()) + 1


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
    rows = np.asarray(vertices)
    rows = np.ascontiguousarray(rows if rows.dtype == np.float32 else rows.astype(np.float64)) + rows.dtype.type(0)
    first, group = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    count = adjacency.group_rows(rows, rows.view(f"u{rows.itemsize}"), first, group)
    return first[:count].copy(), group


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
    out = np.empty((len(mesh.faces), 3))
    adjacency.crosses(*_points_and_faces(mesh), out)
    return out


def faces_without_area(mesh: Mesh, *, threshold: float) -> np.ndarray:
    """Faces whose area is at most ``threshold`` times the square of their longest side, (F,) bool."""
    return np.asarray(adjacency.without_area(*_points_and_faces(mesh), threshold))


def check_indices(mesh: Mesh) -> None:
    """Raise MeshError when a face uses a vertex that does not exist."""
    _, highest = _indices(mesh.faces)
    if highest > len(mesh.vertices):
        raise MeshError(f"a face uses vertex {highest - 1}, but there are {len(mesh.vertices)} vertices")


def _points_and_faces(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Positions as float64 and faces as int32, for the compiled loops; indices checked."""
    check_indices(mesh)
    faces, _ = _indices(mesh.faces)
    return np.ascontiguousarray(mesh.vertices, np.float64), faces


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
    points, faces = _points_and_faces(mesh)
    used = np.zeros(len(points), bool)
    used[faces.reshape(-1)] = True
    inner = points if used.all() else points[used]
    out = np.empty(len(faces))
    adjacency.volumes(points, faces, (inner.min(0) + inner.max(0)) / 2, out)
    return out


def volume(mesh: Mesh) -> float:
    """Enclosed volume in cubed mesh units, negative when the mesh is inside out; meaningless with open borders."""
    return float(face_volumes(mesh).sum())


def parts_by_vertex(faces: np.ndarray, num_vertices: int) -> np.ndarray:
    """Part of each face, (F,) int32: faces that share a vertex index are one part. Numbered from 0."""
    indices, highest = _indices(faces)
    return np.asarray(adjacency.parts_over_vertices(indices, max(num_vertices, highest)))


def parts_by_edge(faces: np.ndarray, table: EdgeTable | None = None) -> np.ndarray:
    """Part of each face, (F,) int32: faces that share an edge are one part, touching in a vertex is not enough.

    Numbered from 0 by first face. table: of these faces, when the caller has it already.
    """
    indices, highest = _indices(faces)
    order = adjacency.sides_by_edge(indices, highest) if table is None else table.order
    return np.asarray(adjacency.parts_over_edges(indices, order))


def open_parts(table: EdgeTable, part: np.ndarray) -> np.ndarray:
    """Which parts have an edge with a single face, (P,) bool."""
    lonely = table.counts[table.side_to_edge] == 1
    return np.bincount(part[np.flatnonzero(lonely) // 3], minlength=int(part.max()) + 1) > 0


def consistent_winding(faces: np.ndarray) -> bool:
    """Whether the two faces of every manifold edge run along it in opposite directions."""
    table = edge_table(faces)
    return _agree(table, table.pairs())


def _agree(table: EdgeTable, pairs: np.ndarray) -> bool:
    return bool((table.forward[pairs[:, 0]] != table.forward[pairs[:, 1]]).all())


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
    turned ^= _inward_parts(mesh, part, turned, table)[part]
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
    pairs = table.pairs()
    if _agree(table, pairs):
        return np.zeros(num_faces, bool)
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


def _inward_parts(mesh: Mesh, part: np.ndarray, turned: np.ndarray, table: EdgeTable) -> np.ndarray:
    """Which parts look inwards and should not, (P,) bool. turned: (F,) bool, faces that will be turned anyway."""
    count = int(part.max()) + 1
    points, faces = _points_and_faces(mesh)
    areas, volumes = adjacency.part_measures(points, faces, part, turned, count)
    closed = ~open_parts(table, part)
    inward = np.zeros(count, bool)
    if not closed.all():
        inward = ~closed & (volumes < -1e-3 * areas**1.5)
    # Solids and cavities have opposite signs; which sign the solids have, the bulk of the volume says.
    inside_out = bool(volumes[closed].sum() < 0)
    odd = closed & ((volumes > 0) if inside_out else (volumes < 0))
    inward |= closed & inside_out
    if not odd.any():
        return inward
    corners = points[faces]
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
    check_indices(mesh)
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
