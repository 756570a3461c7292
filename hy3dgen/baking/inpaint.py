"""Filling as the paint stage defines it: colours spread over the vertex graph, then Navier-Stokes in the picture.

Kept for equality with recorded results; ``fill`` is the seam-aware path of this package.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from hy3dgen.errors import UsageError
from hy3dgen.rendering.jit import compiled

SMALLEST_DISTANCE = 1e-4


def spread_over_vertices(
    texture: np.ndarray,
    mask: np.ndarray,
    positions: np.ndarray,
    uv: np.ndarray,
    faces: np.ndarray,
    uv_faces: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Colour the vertices whose texel is unknown from their neighbours along face edges.

    texture: (H, W, C) float32; mask: (H, W) uint8, above 0 where known
    positions: (V, 3); uv: (U, 2), v up; faces, uv_faces: (F, 3) int
    Returns new (texture, mask); only single texels under vertices are painted, their mask becomes 255.
    Raises UsageError when texture and mask, or the two face lists, do not fit together.
    """
    if texture.ndim != 3 or mask.shape != texture.shape[:2]:
        raise UsageError(f"expected a texture (H, W, C) and a mask (H, W), got {texture.shape} and {mask.shape}")
    if faces.shape != uv_faces.shape:
        raise UsageError(f"position and texture faces must match, got {faces.shape} and {uv_faces.shape}")
    painted, known_mask = np.array(texture, np.float32, order="C"), np.array(mask, np.uint8, order="C")
    corners, uv_corners = _indices(faces, len(positions)), _indices(uv_faces, len(uv))
    texels = _texels(np.asarray(uv, np.float32), mask.shape)
    points = np.ascontiguousarray(positions, np.float32)
    starts = np.zeros(len(points) + 1, np.int64)
    starts[1:] = np.cumsum(np.bincount(corners.reshape(-1), minlength=len(points)))
    targets = np.empty(corners.size, np.int32)
    colours, known = np.zeros((len(points), texture.shape[2]), np.float32), np.zeros(len(points), np.bool_)
    work = np.empty(corners.size, np.int32)
    count = _initialise(painted, known_mask, corners, uv_corners, texels, starts, targets, colours, known, work)
    _spread(work[:count], starts, targets, points, colours, known)
    _write(painted, known_mask, corners, uv_corners, texels, colours, known)
    return painted, known_mask


def _indices(faces: np.ndarray, count: int) -> np.ndarray:
    if len(faces) and (faces.min() < 0 or faces.max() >= count):
        raise UsageError(f"faces point to number {faces.max()} (lowest {faces.min()}) of {count}")
    return np.ascontiguousarray(faces, np.int32)


def _texels(uv: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(U, 2) int32 row and column: rounded half away from zero, columns in float32, rows in float64."""
    height, width = shape
    column = uv[:, 0] * np.float32(width - 1)
    row = (1.0 - uv[:, 1].astype(np.float64)) * (height - 1)
    rounded = [np.trunc(value + np.copysign(value.dtype.type(0.5), value)) for value in (row, column)]
    limits = (height - 1, width - 1)
    return np.stack([np.clip(np.nan_to_num(r), 0, n) for r, n in zip(rounded, limits)], 1).astype(np.int32)


@compiled
def _initialise(texture, mask, faces, uv_faces, texels, starts, targets, colours, known, work):
    cursor = starts[:-1].copy()
    count = 0
    for f in range(faces.shape[0]):
        for k in range(3):
            vertex = faces[f, k]
            row, column = texels[uv_faces[f, k], 0], texels[uv_faces[f, k], 1]
            if mask[row, column] > 0:
                known[vertex] = True
                for c in range(texture.shape[2]):
                    colours[vertex, c] = texture[row, column, c]
            else:
                work[count] = vertex
                count += 1
            targets[cursor[vertex]] = faces[f, (k + 1) % 3]
            cursor[vertex] += 1
    return count


@compiled
def _spread(work, starts, targets, points, colours, known):
    """Passes over the list with updates visible at once, until the number left over has stayed the same for long."""
    counter, previous = 2, 0
    total = np.zeros(colours.shape[1], np.float32)
    while counter > 0:
        left = 0
        for n in range(work.shape[0]):
            vertex = work[n]
            total[:] = 0
            weights = np.float32(0)
            for edge in range(starts[vertex], starts[vertex + 1]):
                other = targets[edge]
                if not known[other]:
                    continue
                dx = np.float64(points[vertex, 0] - points[other, 0])
                dy = np.float64(points[vertex, 1] - points[other, 1])
                dz = np.float64(points[vertex, 2] - points[other, 2])
                distance = max(math.sqrt(dx * dx + dy * dy + dz * dz), SMALLEST_DISTANCE)
                weight = np.float32(1.0 / (distance * distance))
                for c in range(total.shape[0]):
                    total[c] += colours[other, c] * weight
                weights += weight
            if weights > 0:
                for c in range(total.shape[0]):
                    colours[vertex, c] = total[c] / weights
                known[vertex] = True
            else:
                left += 1
        counter += -1 if left == previous else 1
        previous = left


@compiled
def _write(texture, mask, faces, uv_faces, texels, colours, known):
    for f in range(faces.shape[0]):
        for k in range(3):
            vertex = faces[f, k]
            if known[vertex]:
                row, column = texels[uv_faces[f, k], 0], texels[uv_faces[f, k], 1]
                mask[row, column] = 255
                for c in range(texture.shape[2]):
                    texture[row, column, c] = colours[vertex, c]


def fill_picture(texture: np.ndarray, known: np.ndarray, *, radius_px: float = 3) -> np.ndarray:
    """Fill unknown texels of the flat picture by OpenCV's Navier-Stokes inpainting.

    texture: (H, W, 3) float32 in [0, 1], truncated to 8 bits first; known: (H, W) uint8, 0 or 255
    Returns (H, W, 3) uint8.
    """
    return cv2.inpaint((texture * 255).astype(np.uint8), 255 - known, radius_px, cv2.INPAINT_NS)
