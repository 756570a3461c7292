"""Carrying pictures onto a texture by asking every texel for its pixel: no holes, bounded memory, merged as they come.

Trust of a texel in a view = picture's confidence * visibility * falloff of the cosine to the camera. What no view shows
gets a *fallback* colour: its mirror image at x = 0 where a view shows that, else the colour that the pictures have in
front of or behind it, along the horizontal: the tilted ray of a picture from above goes from the back of a mug through
its wall to the inside. How certain that is falls with the thickness of the object between the two, and so does its
detail: the back of an arm is as its front, the back of a head is not a face.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from hy3dgen.baking import project_torch
from hy3dgen.baking.shots import COUNTED_TRUST, FALLOFF, FAR, FULL_TRUST, Shot, camera_constants
from hy3dgen.baking.texels import Surface, Texels
from hy3dgen.rendering.jit import compiled, run_bands


class Painting:
    """Running sums of the pictures laid onto a grid of texels.

    colour, trust, count: what views show, (H, W, 3) and (H, W) float32 trust-weighted, number of views
    fallback: (H, W, 4) for texels without full trust, colour and certainty, both weighted; fallback_trust: weights
    """

    def __init__(self, texels: Texels) -> None:
        shape = texels.face_ids.shape
        self.texels = texels
        self.colour, self.fallback = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 4), np.float32)
        self.trust, self.fallback_trust = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.count = np.zeros(shape, np.uint8)
        self._sums: project_torch.Sums | None = None

    def add(self, surface: Surface, shot: Shot, *, device: torch.device | None = None) -> None:
        """Add what ``shot`` shows directly. Call it for every picture, then ``collect``, before ``add_fallback``."""
        if device is not None and device.type not in ("cpu", "mps"):
            if self._sums is None:
                self._sums = project_torch.Sums(self.texels, device)
            self._sums.add(surface, shot)
            return
        texels = self.texels
        run_bands(
            _add_seen_band, len(texels.face_ids), texels.face_ids, texels.barycentrics,
            surface.faces, surface.positions, surface.normals, shot.view.matrix(),
            camera_constants(shot), shot.image, shot.confidence, shot.depth, self.colour, self.trust, self.count,
        )  # fmt: skip

    def collect(self) -> None:
        """Replace the arrays here by what an accelerator has summed; nothing to do on the CPU."""
        if self._sums is not None:
            self.colour, self.trust, self.count = self._sums.collect()
            self._sums = None

    def add_fallback(self, surface: Surface, shot: Shot, *, symmetry: bool, everywhere: bool = False) -> None:
        """Add a colour for texels below full trust (or for all): mirrored where ``symmetry``, else seen through."""
        texels = self.texels
        limit = np.float32(np.inf if everywhere else FULL_TRUST)
        run_bands(
            _add_fallback_band, len(texels.face_ids), texels.face_ids, texels.barycentrics,
            surface.faces, surface.positions, surface.normals, shot.view.matrix(),
            camera_constants(shot), shot.image, shot.soft, shot.confidence, shot.depth,
            shot.level_depth is not None, *_level(shot), symmetry, limit,
            self.trust, self.fallback, self.fallback_trust,
        )  # fmt: skip


def _level(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, depth) along which ``shot`` is looked through."""
    if shot.level_depth is None:
        return shot.view.matrix(), shot.depth
    return shot.view.with_(elevation_deg=0.0).matrix(), shot.level_depth


_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


@compiled
def _corner(position, size):
    """(index of the left of two samples, fraction) for a position clamped into [0, size - 1]."""
    inside = min(max(position, _ZERO), np.float32(size - 1))
    index = min(int(inside), max(size - 2, 0))
    return index, inside - np.float32(index)


@compiled
def _bilinear(picture, row, column, k):
    r, fr = _corner(row, picture.shape[0])
    c, fc = _corner(column, picture.shape[1])
    r1, c1 = min(r + 1, picture.shape[0] - 1), min(c + 1, picture.shape[1] - 1)
    top = np.float32(picture[r, c, k]) * (_ONE - fc) + np.float32(picture[r, c1, k]) * fc
    bottom = np.float32(picture[r1, c, k]) * (_ONE - fc) + np.float32(picture[r1, c1, k]) * fc
    return top * (_ONE - fr) + bottom * fr


@compiled
def _bilinear_plane(values, row, column):
    r, fr = _corner(row, values.shape[0])
    c, fc = _corner(column, values.shape[1])
    r1, c1 = min(r + 1, values.shape[0] - 1), min(c + 1, values.shape[1] - 1)
    top = values[r, c] * (_ONE - fc) + values[r, c1] * fc
    return top * (_ONE - fr) + (values[r1, c] * (_ONE - fc) + values[r1, c1] * fc) * fr


@compiled
def _confidence_and_visibility(confidence, depth, row, column, z, nearer, farther):
    """Bilinear confidence, and share of the four depths d with z - farther <= d <= z + nearer."""
    r, fr = _corner(row, depth.shape[0])
    c, fc = _corner(column, depth.shape[1])
    trusted, visible = _ZERO, _ZERO
    for dr in range(2):
        wr = fr if dr == 1 else _ONE - fr
        for dc in range(2):
            weight = wr * (fc if dc == 1 else _ONE - fc)
            rr, cc = min(r + dr, depth.shape[0] - 1), min(c + dc, depth.shape[1] - 1)
            trusted += weight * confidence[rr, cc]
            if depth[rr, cc] <= z + nearer and depth[rr, cc] >= z - farther:
                visible += weight
    return trusted, visible


@compiled
def _thickness(depth, row, column, z):
    """How far behind the visible surface a point lies; bilinear over covered pixels, 0 where none is."""
    r, fr = _corner(row, depth.shape[0])
    c, fc = _corner(column, depth.shape[1])
    total, weights = _ZERO, _ZERO
    for dr in range(2):
        wr = fr if dr == 1 else _ONE - fr
        for dc in range(2):
            weight = wr * (fc if dc == 1 else _ONE - fc)
            surface = depth[min(r + dr, depth.shape[0] - 1), min(c + dc, depth.shape[1] - 1)]
            if surface > np.float32(FAR * 0.5):
                total += weight * max(_ZERO, surface - z)
                weights += weight
    return total / weights if weights > 0 else _ZERO


@compiled
def _point(face, weights, faces, values):
    a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
    u, v, w = weights[0], weights[1], weights[2]
    return (
        u * values[a, 0] + v * values[b, 0] + w * values[c, 0],
        u * values[a, 1] + v * values[b, 1] + w * values[c, 1],
        u * values[a, 2] + v * values[b, 2] + w * values[c, 2],
    )


@compiled
def _cosine(matrix, nx, ny, nz):
    length = max(np.float32(math.sqrt(nx * nx + ny * ny + nz * nz)), np.float32(1e-12))
    return (matrix[2, 0] * nx + matrix[2, 1] * ny + matrix[2, 2] * nz) / length


@compiled
def _pixel(matrix, constants, shape, x, y, z):
    """(row, column, camera z) of a point; rows and columns count from the first pixel's centre."""
    cx = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + matrix[0, 3]
    cy = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + matrix[1, 3]
    cz = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + matrix[2, 3]
    return (
        cy * constants[1] + _HALF * np.float32(shape[0] - 1),
        cx * constants[0] + _HALF * np.float32(shape[1] - 1),
        cz,
    )


@compiled
def _shown(matrix, constants, confidence, depth, x, y, z, cosine, farther):
    """(trust, row, column) of a surface point in the view; ``farther`` bounds how far behind it the surface may be."""
    limit = constants[2]
    row, column, cz = _pixel(matrix, constants, depth.shape, x, y, z)
    if cosine <= limit:
        return _ZERO, row, column
    slope = np.float32(math.sqrt(max(_ZERO, _ONE - cosine * cosine))) / cosine
    bias = constants[4] * (_ONE + slope) + np.float32(0.001)
    trusted, visible = _confidence_and_visibility(confidence, depth, row, column, cz, bias, max(farther, bias))
    falloff = (cosine - limit) / (_ONE - limit)
    return constants[3] * trusted * visible * falloff**FALLOFF, row, column


@compiled
def _add_seen_band(
    first, end, ids, barycentrics, faces, positions, normals, matrix, constants, image, confidence, depth,
    colour, trust, count,
):  # fmt: skip
    for row in range(first, end):
        for column in range(ids.shape[1]):
            face = ids[row, column] - 1
            if face < 0:
                continue
            weights = barycentrics[row, column]
            nx, ny, nz = _point(face, weights, faces, normals)
            cosine = _cosine(matrix, nx, ny, nz)
            if cosine <= constants[2]:
                continue
            x, y, z = _point(face, weights, faces, positions)
            seen, r, c = _shown(matrix, constants, confidence, depth, x, y, z, cosine, np.float32(1e10))
            if seen <= 0:
                continue
            for k in range(3):
                colour[row, column, k] += seen * _bilinear(image, r, c, k)
            trust[row, column] += seen
            if seen >= np.float32(COUNTED_TRUST):
                count[row, column] += 1


MIRROR_TOLERANCE = np.float32(0.03)
"""How far the surface may lie from the mirror image of a point to lend its colour."""
THROUGH_WEIGHT = np.float32(0.03)
DETAIL_THICKNESS, CERTAIN_THICKNESS = np.float32(0.06), np.float32(0.23)
"""Thickness of the object, in units of the framed mesh, over which detail and certainty of what lies behind fade."""


@compiled
def _add_fallback_band(
    first, end, ids, barycentrics, faces, positions, normals, matrix, constants, image, soft, confidence, depth,
    tilted, level_matrix, level_depth, symmetry, limit, trust, colour, total,
):  # fmt: skip
    down = np.float32(soft.shape[0]) / np.float32(depth.shape[0])
    across = np.float32(soft.shape[1]) / np.float32(depth.shape[1])
    for row in range(first, end):
        for column in range(ids.shape[1]):
            face = ids[row, column] - 1
            if face < 0 or trust[row, column] >= limit:
                continue
            weights = barycentrics[row, column]
            nx, ny, nz = _point(face, weights, faces, normals)
            x, y, z = _point(face, weights, faces, positions)
            if symmetry:
                cosine = _cosine(matrix, -nx, ny, nz)
                shown, r, c = _shown(matrix, constants, confidence, depth, -x, y, z, cosine, MIRROR_TOLERANCE)
                if shown > 0:
                    for k in range(3):
                        colour[row, column, k] += shown * _bilinear(image, r, c, k)
                    colour[row, column, 3] += shown
                    total[row, column] += shown
            cosine = _cosine(matrix, nx, ny, nz)
            r, c, cz = _pixel(level_matrix, constants, level_depth.shape, x, y, z)
            thickness = _thickness(level_depth, r, c, cz)
            if tilted:  # the picture's pixel of the point in front; at level it is this one
                r, c, _ = _pixel(
                    matrix, constants, depth.shape,
                    x + thickness * level_matrix[2, 0], y + thickness * level_matrix[2, 1],
                    z + thickness * level_matrix[2, 2],
                )  # fmt: skip
            detail = np.float32(math.exp(-((thickness / DETAIL_THICKNESS) ** 2))) * _bilinear_plane(confidence, r, c)
            certain = np.float32(math.exp(-((thickness / CERTAIN_THICKNESS) ** 4)))
            side = cosine if cosine > 0 else np.float32(-0.5) * cosine
            through = THROUGH_WEIGHT * constants[3] * (np.float32(0.03) + side * side) * (np.float32(0.1) + certain)
            small_r, small_c = (r + _HALF) * down - _HALF, (c + _HALF) * across - _HALF
            for k in range(3):
                sharp = _bilinear(image, r, c, k)
                colour[row, column, k] += through * (
                    sharp * detail + _bilinear(soft, small_r, small_c, k) * (_ONE - detail)
                )
            colour[row, column, 3] += through * certain
            total[row, column] += through
