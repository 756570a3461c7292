"""Measures of a shape against a known one: volume and silhouette overlap, chamfer distance, floating pieces; PSNR.

All in the model's frame (y up, longest side about 1.9, domain +-1.01); nothing here knows a network.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

BOUND = 1.01
CELLS = 64  # along a side of the lattice that published figures are of
PICTURE_PX = 512  # of the pictures that the shapes are made from
SURFACE_POINTS = 4096
NO_SURFACE_CHAMFER = 1.0
FIT_LIMIT = 0.2  # shares of the side, and the logarithm of the scale


def lattice(cells: int) -> np.ndarray:
    """(cells + 1, cells + 1, cells + 1, 3) float32 corner points of the domain, x first."""
    axis = np.linspace(-BOUND, BOUND, cells + 1, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def volume_iou(one: np.ndarray, two: np.ndarray) -> float:
    """Intersection over union of two boolean grids; 1 when both are empty."""
    either = int((one | two).sum())
    return float((one & two).sum() / either) if either else 1.0


def crossings(values: np.ndarray) -> np.ndarray:
    """(N, 3) points where a field on the ``lattice`` changes sign along a grid edge, linearly interpolated.

    values: (n, n, n), positive inside
    """
    points = lattice(values.shape[0] - 1).astype(np.float64)
    found = []
    for axis in range(3):
        low, high = np.delete(values, -1, axis), np.delete(values, 0, axis)
        edge = (low > 0) != (high > 0)
        t = (low[edge] / (low[edge] - high[edge]))[:, None]
        found.append(np.delete(points, -1, axis)[edge] * (1 - t) + np.delete(points, 0, axis)[edge] * t)
    return np.concatenate(found)


def with_signs(values: np.ndarray) -> np.ndarray:
    """A field whose far parts a decoder left out (NaN), with 1 or -1 there.

    values: (n, n, n), positive inside, finite at both ends of every edge that crosses the surface; so every connected
    region of NaN lies on one side, the side of the finite values around it (outside when there are none)
    """
    missing = np.isnan(values)
    regions, count = ndimage.label(missing)
    votes = np.zeros(count + 1)
    for axis in range(3):
        for shift in (1, -1):
            beside = np.roll(regions, shift, axis)
            edge = [slice(None)] * 3
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            beside[tuple(edge)] = 0  # what rolled around the border
            touch = ~missing & (beside > 0)
            votes += np.bincount(beside[touch], weights=np.sign(values[touch]), minlength=count + 1)
    return np.where(missing, np.where(votes > 0, 1.0, -1.0)[regions], values).astype(np.float32)


def chamfer(one: np.ndarray, two: np.ndarray, rng: np.random.Generator) -> float:
    """Half the sum of both mean nearest distances between up to SURFACE_POINTS points each; 1 without a surface."""
    if len(one) < 20 or len(two) < 20:
        return NO_SURFACE_CHAMFER
    a, b = (p[rng.permutation(len(p))[:SURFACE_POINTS]] for p in (one, two))
    return float((cKDTree(b).query(a)[0].mean() + cKDTree(a).query(b)[0].mean()) / 2)


def field_scores(field: np.ndarray, inside: np.ndarray, surface: np.ndarray) -> dict[str, float]:
    """IoU and chamfer of a field on the lattice against a known inside and points of the known surface."""
    found = chamfer(crossings(field), surface, np.random.default_rng(0))
    return {"iou": volume_iou(field > 0, inside), "chamfer": found}


def decibels(squared_error: float) -> float:
    """PSNR of values in [0, 1], at most 60."""
    return -10 * math.log10(max(squared_error, 1e-6))


def sample_surface(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) points spread evenly over the area of a triangle mesh."""
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    chosen = corners[rng.choice(len(faces), count, p=area / area.sum())]
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return chosen[:, 0] * (1 - u - v) + chosen[:, 1] * u + chosen[:, 2] * v


def inside_mesh(vertices: np.ndarray, faces: np.ndarray, cells: int) -> np.ndarray:
    """(cells + 1)^3 bool: which points of the ``lattice`` a mesh encloses.

    The winding number of a point is the sum of signed crossings of a ray from it; along x, y and z it is the same for a
    closed mesh, and for a mesh with holes the majority of the three decides. Parts that overlap are united.
    """
    votes = np.zeros((cells + 1,) * 3, np.int8)
    # off the lattice by a trifle, so that rays miss the edges of axis-aligned meshes
    moved = vertices.astype(np.float64) + np.array([1.3e-5, 2.1e-5, 1.7e-5])
    for axis in range(3):
        order = [axis, (axis + 1) % 3, (axis + 2) % 3]
        winding = _winding_along(np.ascontiguousarray(moved[:, order]), np.ascontiguousarray(faces), cells, BOUND)
        votes += np.moveaxis(winding != 0, [0, 1, 2], order).astype(np.int8)
    return votes >= 2


@njit(cache=True, error_model="numpy")
def _winding_along(vertices: np.ndarray, faces: np.ndarray, cells: int, bound: float) -> np.ndarray:
    """Winding numbers from rays along the first axis, (n, n, n) int32."""
    n = cells + 1
    step = 2.0 * bound / cells
    change = np.zeros((n + 1, n, n), np.int32)
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        area = (b[1] - a[1]) * (c[2] - a[2]) - (c[1] - a[1]) * (b[2] - a[2])
        if area == 0.0:
            continue
        sign = 1 if area > 0 else -1
        j0 = max(int(np.ceil((min(a[1], b[1], c[1]) + bound) / step)), 0)
        j1 = min(int(np.floor((max(a[1], b[1], c[1]) + bound) / step)), n - 1)
        k0 = max(int(np.ceil((min(a[2], b[2], c[2]) + bound) / step)), 0)
        k1 = min(int(np.floor((max(a[2], b[2], c[2]) + bound) / step)), n - 1)
        for j in range(j0, j1 + 1):
            y = j * step - bound
            for k in range(k0, k1 + 1):
                z = k * step - bound
                u = ((b[1] - y) * (c[2] - z) - (c[1] - y) * (b[2] - z)) / area
                v = ((c[1] - y) * (a[2] - z) - (a[1] - y) * (c[2] - z)) / area
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                # points before the crossing see it; later ones do not
                i = min(max(int(np.ceil((u * a[0] + v * b[0] + w * c[0] + bound) / step)), 0), n)
                change[i, j, k] -= sign
                change[0, j, k] += sign
    winding = np.empty((n, n, n), np.int32)
    total = np.zeros((n, n), np.int32)
    for i in range(n):
        total += change[i]
        winding[i] = total
    return winding


def floating_share(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Share of a mesh's area in pieces that are not connected with the largest one; 0 for an empty mesh.

    Vertices at one place count as one: texture seams split vertices, not pieces.
    """
    if not len(faces):
        return 0.0
    same = np.unique(vertices, axis=0, return_inverse=True)[1].reshape(-1)
    welded = same[faces]
    links = welded[:, [0, 1, 1, 2]].reshape(-1, 2)
    graph = coo_matrix((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(len(vertices),) * 2)
    piece = connected_components(graph, directed=False)[1][welded[:, 0]]
    corners = vertices[faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    areas = np.bincount(piece, weights=area)
    return float(1 - areas.max() / areas.sum()) if areas.sum() > 0 else 0.0


def framed(mask: np.ndarray, side_px: int = 160) -> np.ndarray:
    """A silhouette moved and evenly scaled so that its box is centred and fills a square; aspect kept.

    mask: (h, w) bool, not empty. Returns (side_px, side_px) bool.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    scale = max(height, width) / side_px
    steps = (np.arange(side_px) + 0.5 - side_px / 2) * scale
    r = np.floor(steps + (rows[0] + rows[-1] + 1) / 2).astype(int)
    c = np.floor(steps + (columns[0] + columns[-1] + 1) / 2).astype(int)
    inside = ((r >= 0) & (r < mask.shape[0]))[:, None] & ((c >= 0) & (c < mask.shape[1]))[None]
    return inside & mask[np.clip(r, 0, mask.shape[0] - 1)][:, np.clip(c, 0, mask.shape[1] - 1)]


def silhouette_iou(one: np.ndarray, two: np.ndarray) -> float:
    """Best overlap of two silhouettes over shifts and even scales of one; 0 when one is empty.

    Starts from both boxes and moves within FIT_LIMIT: one lost antenna changes the box, not the rest. Aspect and
    direction are never changed.
    """
    if not one.any() or not two.any():
        return 0.0
    still, moving = np.pad(framed(one), 24), np.pad(framed(two), 24).astype(np.float32)
    pose, best = np.zeros(3), volume_iou(still, moving > 0.5)  # across, down (shares of the side), log scale
    for step in (0.04, 0.02, 0.01, 0.005):
        improved = True
        while improved:
            improved = False
            for change in (*np.eye(3) * step, *np.eye(3) * -step):
                trial = pose + change
                overlap = volume_iou(still, _moved(moving, trial) > 0.5)
                if np.abs(trial).max() <= FIT_LIMIT and overlap > best + 1e-5:
                    pose, best, improved = trial, overlap, True
    return best


def _moved(mask: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """A square mask shifted by shares of its side and scaled about its centre."""
    import cv2  # the volume measures do without, on machines that train

    side, scale = mask.shape[0], float(np.exp(pose[2]))
    middle = (side - 1) / 2
    matrix = np.array(
        [[scale, 0, middle * (1 - scale) + pose[0] * side], [0, scale, middle * (1 - scale) + pose[1] * side]]
    )
    return cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR)
