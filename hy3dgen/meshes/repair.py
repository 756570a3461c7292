"""Make a surface manifold again and close its small holes, by index work that moves (almost) nothing.

Used after decimation, so that what went in closed and manifold comes out so. Big openings are left alone.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.topology import boundary_edges, check_indices, compact, edge_table, orient

# How far the two sides of a cut are drawn apart, in lengths of the edges there: invisible, but programs that weld
# equal positions on loading do not undo the cut.
_GAP = 2e-3


def drop_folded(faces: np.ndarray, *, closed: bool) -> np.ndarray:
    """Which faces to keep, (F,) bool: without repeated corners and without copies of one face.

    closed: of a face and its mirror image (a flap without thickness) drop both, which keeps a closed surface closed;
    otherwise the first of all copies stays.
    """
    keep = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    chosen = np.flatnonzero(keep)
    if len(chosen) == 0:
        return keep
    low = np.sort(faces[chosen].astype(np.int64), axis=1)
    mixed = (low[:, 0] * 0x9E3779B1 + low[:, 1]) * 0x85EBCA77 + low[:, 2]  # wraps round, equal for equal faces
    mixed.sort()
    if (mixed[1:] != mixed[:-1]).all():
        return keep
    base = int(low.max()) + 1
    # two keys instead of one, so that three indices fit however many vertices there are
    _, pair = np.unique(low[:, 0] * base + low[:, 1], return_inverse=True)
    _, first, group, counts = np.unique(
        pair.reshape(-1).astype(np.int64) * base + low[:, 2],
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    if len(first) == len(chosen):
        return keep
    stays = np.zeros(len(chosen), bool)
    stays[first] = True
    if closed:
        smallest = faces[chosen].argmin(1)
        ordered = np.take_along_axis(faces[chosen], (smallest[:, None] + np.arange(3)) % 3, 1)
        turn = np.where(ordered[:, 1] < ordered[:, 2], 1, -1)
        balance = np.bincount(group.reshape(-1), turn, len(first))
        stays &= (balance[group.reshape(-1)] != 0) | (counts[group.reshape(-1)] == 1)
        # more copies one way than the other: keep one that runs that way
        for index in np.flatnonzero((counts > 1) & (balance != 0)):
            copies = np.flatnonzero(group.reshape(-1) == index)
            stays[copies] = False
            stays[copies[turn[copies] == np.sign(balance[index])][0]] = True
    keep[chosen[~stays]] = False
    return keep


def split_non_manifold(mesh: Mesh) -> tuple[Mesh, int]:
    """Cut the surface along edges with more than two faces and at vertices where fans only touch.

    Around such an edge, each face is joined to the one on the other side of the solid between them, so a closed surface
    stays closed; the copies of a vertex are drawn apart by a thousandth of an edge. UV and normals are carried along.
    Returns the mesh and the number of vertices added; the same object when that is 0.
    """
    check_indices(mesh)
    faces = mesh.faces
    if len(faces) == 0:
        return mesh, 0
    corner_pairs = _corner_links(mesh)
    num_corners = 3 * len(faces)
    graph = coo_array((np.ones(len(corner_pairs), np.int8), corner_pairs.T), shape=(num_corners, num_corners))
    fan = connected_components(graph, directed=False)[1]
    owner = np.zeros(int(fan.max()) + 1, np.int64)
    owner[fan] = faces.reshape(-1)
    order = np.lexsort((np.arange(len(owner)), owner))
    copy = np.zeros(len(owner), bool)
    copy[order[1:]] = owner[order[1:]] == owner[order[:-1]]
    added = int(copy.sum())
    if added == 0:
        return mesh, 0
    target = np.where(copy, 0, owner)
    target[copy] = len(mesh.vertices) + np.arange(added)
    new_faces = target[fan].reshape(-1, 3).astype(np.int32)
    source = np.concatenate([np.arange(len(mesh.vertices)), owner[copy]])
    split = Mesh(
        vertices=mesh.vertices[source],
        faces=new_faces,
        uv=None if mesh.uv is None else mesh.uv[source],
        normals=None if mesh.normals is None else mesh.normals[source],
        texture=mesh.texture,
    )
    shared = np.isin(source, owner[copy])
    return split.with_(vertices=_draw_apart(split, shared)), added


def _corner_links(mesh: Mesh) -> np.ndarray:
    """Pairs of corners (3 f + k) that are one vertex because their faces are joined along an edge there, (n, 2)."""
    faces = mesh.faces
    table = edge_table(faces)
    pairs = [table.pairs()]
    crowded = table.order[np.repeat(table.counts > 2, table.counts)]
    if len(crowded):
        starts = np.flatnonzero(np.r_[True, np.diff(table.side_to_edge[crowded]) != 0])
        for sides in np.split(crowded, starts[1:]):
            pairs.append(_pair_around(mesh, sides, table.forward[sides]))
    sides = np.concatenate(pairs).astype(np.int64)
    face, corner = sides // 3, sides % 3
    start, end = faces[face, corner], faces[face, (corner + 1) % 3]
    links = []
    for vertex in (start, end):  # the corner of either face at each end of the edge
        at = [3 * face[:, j] + np.argmax(faces[face[:, j]] == vertex[:, 0, None], axis=1) for j in (0, 1)]
        links.append(np.stack(at, 1))
    return np.concatenate(links)


def _pair_around(mesh: Mesh, sides: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Join the sides on one crowded edge two by two across the solid between them; (n, 2), odd ones left out."""
    face, corner = sides // 3, sides % 3
    points = mesh.vertices.astype(np.float64)
    tri = mesh.faces[face]
    rows = np.arange(len(sides))
    ends = np.sort(np.stack([tri[rows, corner], tri[rows, (corner + 1) % 3]], 1), axis=1)[0]
    axis = points[ends[1]] - points[ends[0]]
    axis /= np.linalg.norm(axis) or 1.0
    arm = points[tri[rows, (corner + 2) % 3]] - points[ends[0]]
    arm -= np.outer(arm @ axis, axis)
    x_axis = arm[0] / (np.linalg.norm(arm[0]) or 1.0)
    y_axis = np.cross(axis, x_axis)
    angle = np.arctan2(arm @ y_axis, arm @ x_axis)
    # the normal of a forward side turns with the angle, so its solid lies at smaller angles, up to a backward side
    around = np.lexsort((forward, angle))
    pairs: list[tuple[int, int]] = []
    open_backward: list[int] = []
    for index in np.concatenate([around, around]):  # twice round, as the first solid may begin before angle -π
        if any(index in pair for pair in pairs):
            continue
        if not forward[index]:
            if index not in open_backward:
                open_backward.append(int(index))
        elif open_backward:
            pairs.append((int(index), open_backward.pop()))
    return sides[np.array(pairs, dtype=np.int64).reshape(-1, 2)]


def _draw_apart(mesh: Mesh, which: np.ndarray) -> np.ndarray:
    """Vertices with the chosen ones, (V,) bool, moved into their own solid by _GAP of their mean edge."""
    points = mesh.vertices.astype(np.float64)
    touched = which[mesh.faces].any(1)
    faces = mesh.faces[touched]
    corners = points[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    unit = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    inward = np.zeros_like(points)
    np.add.at(inward, faces.reshape(-1), -np.repeat(unit, 3, axis=0))
    size = np.linalg.norm(inward, axis=1, keepdims=True)
    inward = np.divide(inward, size, out=np.zeros_like(inward), where=size > 1e-9)
    side = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).mean(1)
    reach = np.bincount(faces.reshape(-1), np.repeat(side, 3), len(points))
    uses = np.maximum(np.bincount(faces.reshape(-1), minlength=len(points)), 1)
    moved = points + inward * (_GAP * reach / uses * which)[:, None]
    return moved.astype(mesh.vertices.dtype)


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """The simple closed border lines, each (n,) vertex indices in the direction in which a filling face runs.

    Lines through a vertex where borders touch are cut there into simple loops.
    """
    table = edge_table(faces)
    sides = np.flatnonzero(table.counts[table.side_to_edge] == 1)
    start = faces.reshape(-1)[sides]
    end = faces[:, [1, 2, 0]].reshape(-1)[sides]
    onward: dict[int, list[int]] = {}
    for tail, head in zip(end.tolist(), start.tolist()):  # against the faces' own direction
        onward.setdefault(tail, []).append(head)
    loops = []
    for seed in sorted(onward):
        while onward.get(seed):
            path, place = [seed], {seed: 0}
            while True:
                choices = onward.get(path[-1])
                if not choices:
                    break
                step = choices.pop()
                if step in place:
                    cut = place[step]
                    loops.append(np.array(path[cut:], np.int64))
                    for vertex in path[cut + 1 :]:
                        del place[vertex]
                    del path[cut + 1 :]
                    if len(path) == 1 and not onward.get(seed):
                        break
                else:
                    place[step] = len(path)
                    path.append(step)
            if not onward.get(seed):
                break
    return loops


def fill_holes(mesh: Mesh, *, max_edges: int = 30) -> tuple[Mesh, int]:
    """Close holes of up to ``max_edges`` edges with flat faces, without new vertices. Returns (mesh, holes closed).

    A hole is left open when closing it would need an edge that two faces have already. Faces over a hole in a UV map
    take the UVs of its rim, so callers fill before they unwrap.
    """
    check_indices(mesh)
    loops = [loop for loop in boundary_loops(mesh.faces) if 3 <= len(loop) <= max_edges]
    if not loops:
        return mesh, 0
    table = edge_table(mesh.faces)
    base = int(mesh.faces.max()) + 1
    near = np.isin(table.edges, np.concatenate(loops)).all(1)
    sides = dict(zip((table.edges[near, 0] * base + table.edges[near, 1]).tolist(), table.counts[near].tolist()))
    points = mesh.vertices.astype(np.float64)
    added: list[tuple[int, int, int]] = []
    closed = 0
    for loop in loops:
        ears = _clip_ears(points, loop.tolist(), sides, base)
        if ears is None:
            continue
        added += ears
        closed += 1
        for ear in ears:
            for a, b in ((ear[0], ear[1]), (ear[1], ear[2]), (ear[2], ear[0])):
                key = min(a, b) * base + max(a, b)
                sides[key] = sides.get(key, 0) + 1
    if not added:
        return mesh, 0
    return mesh.with_(faces=np.concatenate([mesh.faces, np.array(added, np.int32)])), closed


def _clip_ears(
    points: np.ndarray, loop: list[int], sides: dict[int, int], base: int
) -> list[tuple[int, int, int]] | None:
    """Triangles that fill a loop, shortest new edge first; None when an edge would get a third face."""
    ears: list[tuple[int, int, int]] = []
    ring = list(loop)
    while len(ring) > 3:
        size = len(ring)
        best, best_length = -1, np.inf
        for i in range(size):
            a, c = ring[i - 1], ring[(i + 1) % size]
            length = float(np.sum((points[a] - points[c]) ** 2))
            if length < best_length and sides.get(min(a, c) * base + max(a, c), 0) == 0:
                best, best_length = i, length
        if best < 0:
            return None
        ears.append((ring[best - 1], ring[best], ring[(best + 1) % size]))
        del ring[best]
    ears.append((ring[0], ring[1], ring[2]))
    return ears


def repair(mesh: Mesh, *, closed: bool = True, max_rounds: int = 8) -> Mesh:
    """A manifold version of ``mesh``; with ``closed``, small holes are filled as well. Unused vertices go.

    Nothing is promised for surfaces that were open or crossed before; they come back at least as good as they were.
    """
    for _ in range(max_rounds):
        keep = drop_folded(mesh.faces, closed=closed)
        changed = not keep.all()
        mesh = compact(mesh, keep)
        mesh, turned = orient(mesh)
        mesh, copies = split_non_manifold(mesh)
        holes = 0
        if closed and len(boundary_edges(mesh.faces)):
            mesh, holes = fill_holes(mesh)
        if not (changed or copies or holes or turned):
            break
    return mesh
