"""Colours for texels that no picture shows, continuous over the surface and across texture seams.

Colours of mesh points are found first, on the graph of the mesh where seams do not exist: seen ones hold, the others
are a compromise between their neighbours and their fallback colour, the more so the more certain that is. Texels take
their fallback colour, with its detail, plus the correction that their corners found.
Beyond the charts a pull-push pyramid with some smoothing continues the nearest colours.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import sparse

from hy3dgen.baking.project import Painting
from hy3dgen.baking.shots import FULL_TRUST
from hy3dgen.baking.texels import Surface
from hy3dgen.rendering.jit import compiled, run_bands

REACH = 0.04
"""Distance, in units of the framed mesh, over which a certain fallback colour takes over from its neighbours."""
_DOUBT = 0.002
"""Certainty that even the least certain fallback colour has."""
_ANCHOR = 10.0
_CONTRAST = 20.0
"""Difference of fallback colours, in 8-bit levels, across which colours hardly spread."""
SWEEPS = 3
"""Rounds of smoothing on each level of the pyramid: from here on more gain little, see docs/geometry.md."""
_OVERSHOOT = 1.4
"""How far a pixel goes towards the mean of its neighbours; over 1 the colours settle in fewer rounds."""


def spread_correction(surface: Surface, points: Painting) -> np.ndarray:
    """(N, 3) float32: what to add to the fallback colour at every distinct position.

    points: a painting of ``texels_of_points`` with fallback everywhere
    """
    trust = np.minimum(points.trust[:, 0] / FULL_TRUST, 1)
    seen = points.colour[:, 0] / np.maximum(points.trust, 1e-12)
    fallback = points.fallback[:, 0] / np.maximum(points.fallback_trust, 1e-12)
    laplacian = _graph(surface, fallback)
    anchor = _ANCHOR * trust.astype(np.float64)
    pull = (mean_edge(surface) / REACH) ** 2 * np.maximum(fallback[:, 3].astype(np.float64), _DOUBT)
    system = (laplacian + sparse.diags(anchor + pull)).tocsr()
    start = np.where(trust[:, None] > 0, seen, fallback[:, :3]).astype(np.float64)
    wanted = anchor[:, None] * seen + pull[:, None] * fallback[:, :3]
    return (_solved(system, wanted, start) - fallback[:, :3]).astype(np.float32)


def _solved(
    system: sparse.csr_matrix, wanted: np.ndarray, start: np.ndarray, *, tolerance: float = 1e-4, rounds: int = 300
) -> np.ndarray:
    """Conjugate gradients with a diagonal preconditioner for all columns (N, C) of ``wanted`` at once."""
    inverse = 1 / system.diagonal()[:, None]
    solution, residual = start.copy(), wanted - system @ start
    direction = step = inverse * residual
    energy = (residual * step).sum(axis=0)
    goal = tolerance * np.linalg.norm(wanted, axis=0)
    for _ in range(rounds):
        if (np.linalg.norm(residual, axis=0) <= goal).all():
            break
        image = system @ direction
        curvature = (direction * image).sum(axis=0)
        along = np.divide(energy, curvature, out=np.zeros_like(energy), where=curvature > 0)
        solution += along * direction
        residual -= along * image
        step = inverse * residual
        previous, energy = energy, (residual * step).sum(axis=0)
        turn = np.divide(energy, previous, out=np.zeros_like(energy), where=previous > 0)
        direction = step + turn * direction
    return solution


def mean_edge(surface: Surface) -> float:
    """Mean length of the edges, in units of the framed mesh."""
    ends = surface.positions[surface.faces]
    return max(float(np.linalg.norm(ends - np.roll(ends, 1, axis=1), axis=2).mean()), 1e-6)


def _graph(surface: Surface, fallback: np.ndarray) -> sparse.csr_matrix:
    """Laplacian of the graph of distinct positions.

    An edge weighs 1, and less where its ends have different fallback colours (N, 4) that are both certain.
    """
    count = len(fallback)
    corners = surface.points[surface.faces]
    pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1).astype(np.int64)
    low, high = np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count)
    contrast = np.linalg.norm((fallback[low, :3] - fallback[high, :3]).astype(np.float64), axis=1) / _CONTRAST
    certain = np.minimum(fallback[low, 3], fallback[high, 3])
    weight = np.maximum(np.exp(-certain * contrast**2), 0.01)
    adjacency = sparse.coo_matrix((weight, (low, high)), shape=(count, count)).tocsr()
    adjacency = adjacency + adjacency.T
    return sparse.diags(np.asarray(adjacency.sum(axis=1)).reshape(-1)) - adjacency


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


def nearest(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W, C): where ``known`` (H, W) bool is False, the colour of the nearest known pixel; unchanged if none is."""
    if not known.any():
        return picture.copy()
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    source = np.zeros(int(labels.max()) + 1, np.int64)
    places = np.flatnonzero(known)
    source[labels.reshape(-1)[places]] = places
    return picture.reshape(-1, picture.shape[2])[source[labels.reshape(-1)]].reshape(picture.shape)


def pull_push(picture: np.ndarray, known: np.ndarray, *, sweeps: int = SWEEPS) -> np.ndarray:
    """Fill unknown pixels from known ones near and far, smoothly; known pixels stay as they are.

    A pyramid of means gives colours of the right kind everywhere, and ``sweeps`` over the unknown pixels of each level
    make every one the mean of its neighbours, as a membrane spanned over the hole would lie; 0 leaves that out.
    picture: (H, W, 3) uint8; known: (H, W) bool. Returns a new (H, W, 3) uint8; zeros where nothing is known.
    """
    height, width = known.shape
    half = ((height + 1) // 2, (width + 1) // 2)
    values, weight = np.empty((*half, 3), np.float32), np.empty(half, np.float32)
    run_bands(_halve_band, half[0], picture, known, values, weight)
    levels = [(values, weight)]
    while max(weight.shape) > 1:
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        mass = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        total = cv2.resize(values * weight[..., None], size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], 3)
        values = total / np.maximum(mass, 1e-12)[..., None]
        weight = np.minimum(mass * 4, 1)
        levels.append((values, weight))
    filled = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        size = (weight.shape[1], weight.shape[0])
        larger = cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR).reshape(values.shape)
        filled = np.ascontiguousarray(larger + (values - larger) * weight[..., None], np.float32)
        _relax(filled, weight >= 1, sweeps)
    fine = np.empty((height, width, 3), np.float32)
    run_bands(_double_band, height, picture, known, filled, fine)
    _relax(fine, known, sweeps)
    out = np.empty((height, width, 3), np.uint8)
    run_bands(_round_band, height, fine, out)
    return out


def _relax(values: np.ndarray, fixed: np.ndarray, sweeps: int) -> None:
    """Draw the pixels that are not ``fixed``, (H, W) bool, to the mean of their four neighbours, in place.

    The fields of a chessboard in turns, so that no field reads what another band writes: the number of threads
    changes nothing.
    """
    for _ in range(sweeps):
        for field in (0, 1):
            run_bands(_relax_band, len(values), fixed, field, values)


@compiled
def _relax_band(first, end, fixed, field, values):
    height, width = fixed.shape
    for row in range(first, end):
        up, down = max(row - 1, 0), min(row + 1, height - 1)
        for column in range((row + field) % 2, width, 2):
            if fixed[row, column]:
                continue
            left, right = max(column - 1, 0), min(column + 1, width - 1)
            for k in range(3):
                around = values[up, column, k] + values[down, column, k] + values[row, left, k] + values[row, right, k]
                own = values[row, column, k]
                values[row, column, k] = own + (around * np.float32(0.25) - own) * np.float32(_OVERSHOOT)


@compiled
def _halve_band(first, end, picture, known, values, weight):
    """Means of the known pixels of two by two, and 1 where there is any."""
    for row in range(first, end):
        for column in range(weight.shape[1]):
            count = np.float32(0)
            red, green, blue = np.float32(0), np.float32(0), np.float32(0)
            for r in range(2 * row, min(2 * row + 2, known.shape[0])):
                for c in range(2 * column, min(2 * column + 2, known.shape[1])):
                    if known[r, c]:
                        count += np.float32(1)
                        red += np.float32(picture[r, c, 0])
                        green += np.float32(picture[r, c, 1])
                        blue += np.float32(picture[r, c, 2])
            scale = np.float32(1) / max(count, np.float32(1))
            values[row, column, 0] = red * scale
            values[row, column, 1] = green * scale
            values[row, column, 2] = blue * scale
            weight[row, column] = min(count, np.float32(1))


@compiled
def _double_band(first, end, picture, known, half, out):
    """Known pixels from the picture, the others from the half-size one between its pixels."""
    for row in range(first, end):
        y = min(
            max((np.float32(row) - np.float32(0.5)) * np.float32(0.5), np.float32(0)), np.float32(half.shape[0] - 1)
        )
        r = min(int(y), max(half.shape[0] - 2, 0))
        r1, fy = min(r + 1, half.shape[0] - 1), y - np.float32(r)
        for column in range(known.shape[1]):
            if known[row, column]:
                for k in range(3):
                    out[row, column, k] = np.float32(picture[row, column, k])
                continue
            x = (np.float32(column) - np.float32(0.5)) * np.float32(0.5)
            x = min(max(x, np.float32(0)), np.float32(half.shape[1] - 1))
            c = min(int(x), max(half.shape[1] - 2, 0))
            c1, fx = min(c + 1, half.shape[1] - 1), x - np.float32(c)
            for k in range(3):
                top = half[r, c, k] + (half[r, c1, k] - half[r, c, k]) * fx
                bottom = half[r1, c, k] + (half[r1, c1, k] - half[r1, c, k]) * fx
                out[row, column, k] = top + (bottom - top) * fy


@compiled
def _round_band(first, end, values, out):
    for row in range(first, end):
        for column in range(out.shape[1]):
            for k in range(3):
                value = min(max(values[row, column, k] + np.float32(0.5), np.float32(0)), np.float32(255))
                out[row, column, k] = np.uint8(value)
