"""Carrying pictures onto a texture by asking every texel for its pixel: no holes, bounded memory, merged as they come.

Trust of a texel in a view = picture's confidence * visibility * falloff of the cosine to the camera. What no view shows
gets a *fallback* colour: its mirror image at x = 0 where a view shows that, else the colour that the pictures have in
front of or behind it. How certain that is falls with the thickness of the object between the two, and so does its
detail: the back of an arm is as its front, the back of a head is not a face.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from hy3dgen.baking.texels import Surface, Texels
from hy3dgen.errors import UsageError
from hy3dgen.rendering.cameras import View, transform_points
from hy3dgen.rendering.jit import compiled, run_bands
from hy3dgen.rendering.rasterizers import interpolate, rasterize

FULL_TRUST = 0.05
"""Trust from which a texel keeps the pictures' colour unmixed; reached at about 63 degrees from the view."""
LIMIT_DEG = 80.0
FALLOFF = 3
_FAR = -1e9


@dataclass(frozen=True)
class Shot:
    """One picture, laid over the raster of its view.

    view: orthographic; image: (H, W, 3) uint8 sRGB, without background colour anywhere
    soft: (h, w, 3) uint8, the same picture blurred, for what lies behind
    confidence: (H, W) float32 in [0, 1]; depth: (H, W) float32 camera z of the surface, far behind where there is none
    """

    view: View
    image: np.ndarray
    soft: np.ndarray
    confidence: np.ndarray
    depth: np.ndarray
    weight: float = 1.0


def depth_of(
    surface: Surface, view: View, size: tuple[int, int], *, device: torch.device | str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """(camera z (H, W) float32, covered (H, W) bool) of a surface seen by an orthographic view."""
    if view.fovy_deg is not None:
        raise UsageError("pictures are projected with orthographic views; leave fovy_deg unset")
    camera = transform_points(view.matrix(), torch.from_numpy(surface.positions).to(device))
    faces = torch.from_numpy(surface.faces).to(device)
    raster = rasterize(transform_points(view.projection(), camera), faces, size)
    depth = interpolate(camera[:, 2:3].contiguous(), faces, raster)[..., 0]
    covered = raster.covered
    return torch.where(covered, depth, depth.new_tensor(_FAR)).cpu().numpy(), covered.cpu().numpy()


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

    def add(self, surface: Surface, shot: Shot, *, device: torch.device | None = None) -> None:
        """Add what ``shot`` shows directly. Call it for every picture before ``add_fallback``."""
        if device is not None and device.type not in ("cpu", "mps"):
            from hy3dgen.baking.project_torch import add_seen

            add_seen(self, surface, shot, device)
            return
        texels = self.texels
        run_bands(
            _add_seen_band, len(texels.face_ids), texels.face_ids, texels.barycentrics,
            surface.faces, surface.positions, surface.normals, shot.view.matrix(),
            camera_constants(shot), shot.image, shot.confidence, shot.depth, self.colour, self.trust, self.count,
        )  # fmt: skip

    def add_fallback(self, surface: Surface, shot: Shot, *, symmetry: bool, everywhere: bool = False) -> None:
        """Add a colour for texels below full trust (or for all): mirrored where ``symmetry``, else seen through."""
        texels = self.texels
        limit = np.float32(np.inf if everywhere else FULL_TRUST)
        run_bands(
            _add_fallback_band, len(texels.face_ids), texels.face_ids, texels.barycentrics,
            surface.faces, surface.positions, surface.normals, shot.view.matrix(),
            camera_constants(shot), shot.image, shot.soft, shot.confidence, shot.depth,
            symmetry, limit, self.trust, self.fallback, self.fallback_trust,
        )  # fmt: skip


def camera_constants(shot: Shot) -> np.ndarray:
    """(5,) float32: pixels per unit across and down, cosine limit, weight, side of a pixel in units."""
    height, width = shot.depth.shape
    per_unit = 1.0 / shot.view.ortho_scale
    return np.array(
        [(width - 1) * per_unit, (height - 1) * per_unit, math.cos(math.radians(LIMIT_DEG)), shot.weight,
         shot.view.ortho_scale / max(1, min(height, width) - 1)], np.float32,
    )  # fmt: skip


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
            if surface > np.float32(_FAR * 0.5):
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
            if seen >= np.float32(0.1 * FULL_TRUST):
                count[row, column] += 1


MIRROR_TOLERANCE = np.float32(0.03)
"""How far the surface may lie from the mirror image of a point to lend its colour."""
THROUGH_WEIGHT = np.float32(0.002)
DETAIL_THICKNESS, CERTAIN_THICKNESS = np.float32(0.06), np.float32(0.23)
"""Thickness of the object, in units of the framed mesh, over which detail and certainty of what lies behind fade."""


@compiled
def _add_fallback_band(
    first, end, ids, barycentrics, faces, positions, normals, matrix, constants, image, soft, confidence, depth,
    symmetry, limit, trust, colour, total,
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
            r, c, cz = _pixel(matrix, constants, depth.shape, x, y, z)
            thickness = _thickness(depth, r, c, cz)
            detail = np.float32(math.exp(-((thickness / DETAIL_THICKNESS) ** 2)))
            certain = np.float32(math.exp(-((thickness / CERTAIN_THICKNESS) ** 4)))
            side = cosine if cosine > 0 else np.float32(-0.5) * cosine
            through = THROUGH_WEIGHT * constants[3] * (np.float32(0.02) + side * side)
            small_r, small_c = (r + _HALF) * down - _HALF, (c + _HALF) * across - _HALF
            for k in range(3):
                sharp = _bilinear(image, r, c, k)
                colour[row, column, k] += through * (
                    sharp * detail + _bilinear(soft, small_r, small_c, k) * (_ONE - detail)
                )
            colour[row, column, 3] += through * certain
            total[row, column] += through
