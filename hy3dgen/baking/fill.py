"""Colours for texels that no picture shows, continuous over the surface and across texture seams.

Colours of mesh points are found first, on the graph of the mesh where seams do not exist: seen ones hold, the others
are a compromise between their neighbours and their fallback colour, the more so the more certain that is. Texels take
their fallback colour, with its detail, plus the correction that their corners found.
Beyond the charts a weighted pull-push pyramid continues the nearest colours.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from hy3dgen.baking.project import FULL_TRUST, Painting
from hy3dgen.baking.texels import Surface
from hy3dgen.rendering.jit import compiled, run_bands

REACH = 0.04
"""Distance, in units of the framed mesh, over which a certain fallback colour takes over from its neighbours."""
_DOUBT = 0.002
"""Certainty that even the least certain fallback colour has."""
_ANCHOR = 10.0
_CONTRAST = 20.0
"""Difference of fallback colours, in 8-bit levels, across which colours hardly spread."""


def spread_correction(surface: Surface, points: Painting) -> np.ndarray:
    """(N, 3) float32: what to add to the fallback colour at every distinct position.

    points: a painting of ``texels_of_points`` with fallback everywhere
    """
    trust = np.minimum(points.trust[:, 0] / FULL_TRUST, 1)
    seen = points.colour[:, 0] / np.maximum(points.trust, 1e-12)
    fallback = points.fallback[:, 0] / np.maximum(points.fallback_trust, 1e-12)
    laplacian, length = _graph(surface, fallback)
    anchor = _ANCHOR * trust.astype(np.float64)
    pull = (length / REACH) ** 2 * np.maximum(fallback[:, 3].astype(np.float64), _DOUBT)
    system = (laplacian + sparse.diags(anchor + pull)).tocsr()
    inverse = sparse.diags(1 / system.diagonal())
    start = np.where(trust[:, None] > 0, seen, fallback[:, :3]).astype(np.float64)
    correction = np.empty((len(trust), 3), np.float32)
    for k in range(3):
        wanted = anchor * seen[:, k] + pull * fallback[:, k]
        solved, _ = cg(system, wanted, x0=start[:, k], rtol=1e-4, maxiter=300, M=inverse)
        correction[:, k] = solved - fallback[:, k]
    return correction


def _graph(surface: Surface, fallback: np.ndarray) -> tuple[sparse.csr_matrix, float]:
    """(Laplacian of the graph of positions, mean edge length).

    An edge weighs 1, and less where its ends have different fallback colours (N, 4) that are both certain.
    """
    count = len(fallback)
    corners = surface.points[surface.faces]
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    ends = surface.positions[surface.faces]
    length = float(np.linalg.norm(ends - np.roll(ends, 1, axis=1), axis=2).mean())
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1).astype(np.int64)
    low, high = np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count)
    contrast = np.linalg.norm((fallback[low, :3] - fallback[high, :3]).astype(np.float64), axis=1) / _CONTRAST
    certain = np.minimum(fallback[low, 3], fallback[high, 3])
    weight = np.maximum(np.exp(-certain * contrast**2), 0.01)
    adjacency = sparse.coo_matrix((weight, (low, high)), shape=(count, count)).tocsr()
    adjacency = adjacency + adjacency.T
    return sparse.diags(np.asarray(adjacency.sum(axis=1)).reshape(-1)) - adjacency, max(length, 1e-6)


def compose(surface: Surface, painting: Painting, correction: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: seen colours, melting into corrected fallback colours below full trust; 0 off the texels."""
    texels = painting.texels
    out = np.zeros((*texels.face_ids.shape, 3), np.uint8)
    run_bands(
        _compose_band, len(out), texels.face_ids, texels.barycentrics, surface.faces, surface.points, correction,
        painting.colour, painting.trust, painting.fallback, painting.fallback_trust, out,
    )  # fmt: skip
    return out


@compiled
def _compose_band(
    first, end, ids, barycentrics, faces, points, correction, colour, trust, fallback, fallback_trust, out
):
    one = np.float32(1)
    for row in range(first, end):
        for column in range(ids.shape[1]):
            face = ids[row, column] - 1
            if face < 0:
                continue
            share = min(one, trust[row, column] / np.float32(FULL_TRUST))
            share = share * share * (np.float32(3) - share - share)
            for k in range(3):
                value = np.float32(0)
                if trust[row, column] > 0:
                    value = share * colour[row, column, k] / trust[row, column]
                if share < one:
                    other = fallback[row, column, k] / max(fallback_trust[row, column], np.float32(1e-12))
                    for corner in range(3):
                        weight = barycentrics[row, column, corner]
                        other += weight * correction[points[faces[face, corner]], k]
                    value += (one - share) * other
                out[row, column, k] = np.uint8(min(max(value + np.float32(0.5), np.float32(0)), np.float32(255)))


def pull_push(picture: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Fill where ``weight`` is 0 from known pixels near and far; known pixels (weight 1) stay as they are.

    picture: (H, W, C) uint8 or float32; weight: (H, W) float32 in [0, 1]. Returns the picture's dtype.
    Zeros when nothing is known.
    """
    height, width = weight.shape
    values = picture.astype(np.float32)
    if height == 1 and width == 1:
        return picture * (weight > 0)[..., None].astype(picture.dtype)
    known = weight.astype(np.float32)
    levels = [(values, known)]
    while max(known.shape) > 1:
        size = ((known.shape[1] + 1) // 2, (known.shape[0] + 1) // 2)
        mass = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
        total = cv2.resize(values * known[..., None], size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
        values = total / np.maximum(mass, 1e-12)[..., None]
        known = np.minimum(mass * 4, 1).astype(np.float32)
        levels.append((values, known))
    filled = levels[-1][0]
    for values, known in reversed(levels[:-1]):
        size = (known.shape[1], known.shape[0])
        larger = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR).reshape(values.shape)
        filled = larger + (values - larger) * known[..., None]
    if picture.dtype == np.uint8:
        return np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    return filled.astype(picture.dtype)
