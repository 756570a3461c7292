"""Rasterisation on the CPU with compiled loops: rows in bands, every band with its own part of the depth buffer."""

from __future__ import annotations

import math

import numpy as np
import torch

from hy3dgen.rendering.jit import compiled, run_bands
from hy3dgen.rendering.rasterizers.contract import (
    DEPTH_SCALE,
    EMPTY_KEY,
    KEY_BASE,
    OCCLUSION_TRUNCATION,
    Raster,
    Rules,
)

_ONE, _HALF = np.float32(1), np.float32(0.5)
_DEPTH_SCALE = np.float32(DEPTH_SCALE)
_STEP_LIMIT = np.float32(KEY_BASE)


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, size: tuple[int, int], depth_prior: torch.Tensor | None, rules: Rules
) -> Raster:
    """See ``contract``. Works on the CPU whatever the device of ``clip``."""
    height, width = size
    points = np.ascontiguousarray(clip.detach().cpu().numpy())
    triangles = np.ascontiguousarray(faces.cpu().numpy().astype(np.int32, copy=False))
    screen = np.empty((len(points), 3), np.float32)
    scale = np.array([rules.scale_px(width), rules.scale_px(height)], np.float32)
    _to_screen(points, scale, np.float32(rules.offset_px), screen)
    rows = np.empty((len(triangles), 2), np.int32)
    _row_ranges(screen, triangles, height, rows)
    threshold = np.zeros((1, 1), np.float32)
    if depth_prior is not None:
        prior = np.ascontiguousarray(depth_prior.cpu().numpy())
        threshold = prior * _DEPTH_SCALE + _HALF + np.float32(OCCLUSION_TRUNCATION)
    ids = np.empty((height, width), np.int32)
    barycentrics = np.empty((height, width, 3), np.float32)
    steps = np.float32(rules.depth_steps)
    run_bands(_draw_band, height, points, screen, triangles, rows, threshold, steps, ids, barycentrics)
    return Raster(torch.from_numpy(ids).to(clip.device), torch.from_numpy(barycentrics).to(clip.device))


@compiled
def _to_screen(points, scale, offset, screen):
    for i in range(points.shape[0]):
        x, y, z, w = points[i, 0], points[i, 1], points[i, 2], points[i, 3]
        if w == 0:
            screen[i, 0] = screen[i, 1] = screen[i, 2] = np.float32(np.nan)
            continue
        screen[i, 0] = (x / w * _HALF + _HALF) * scale[0] + offset
        screen[i, 1] = (_HALF + _HALF * y / w) * scale[1] + offset
        screen[i, 2] = z / w * _DEPTH_SCALE + _HALF


@compiled
def _area(px, py, qx, qy, rx, ry):
    return (rx - px) * (qy - py) - (qx - px) * (ry - py)


@compiled
def _first(lowest, size):
    """The first candidate pixel: truncated toward zero, cut to the picture."""
    if lowest <= 0:
        return 0
    return size if lowest >= size else int(lowest)


@compiled
def _end(highest, size):
    """One past the last pixel with index < highest + 1, cut to the picture."""
    limit = highest + _ONE
    if limit <= 0:
        return 0
    return size if limit >= size else math.ceil(limit)


@compiled
def _row_ranges(screen, triangles, height, rows):
    """Rows each face may touch; an empty range for faces that are skipped."""
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        area = _area(screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1])
        total = screen[a, 2] + screen[b, 2] + screen[c, 2]
        rows[f, 0] = rows[f, 1] = 0
        if area != 0 and math.isfinite(area) and math.isfinite(total):
            rows[f, 0] = _first(min(screen[a, 1], screen[b, 1], screen[c, 1]), height)
            rows[f, 1] = _end(max(screen[a, 1], screen[b, 1], screen[c, 1]), height)


@compiled
def _draw_band(first_row, end_row, points, screen, triangles, rows, threshold, steps, ids, barycentrics):
    width = ids.shape[1]
    with_prior = threshold.shape[0] == ids.shape[0] and threshold.shape[1] == width
    keys = np.full((end_row - first_row, width), EMPTY_KEY, np.int64)
    for f in range(triangles.shape[0]):
        low, high = max(rows[f, 0], first_row), min(rows[f, 1], end_row)
        if low >= high:
            continue
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, az = screen[a, 0], screen[a, 1], screen[a, 2]
        bx, by, bz = screen[b, 0], screen[b, 1], screen[b, 2]
        cx, cy, cz = screen[c, 0], screen[c, 1], screen[c, 2]
        inverse = _ONE / _area(ax, ay, bx, by, cx, cy)
        left, right = _first(min(ax, bx, cx), width), _end(max(ax, bx, cx), width)
        for row in range(low, high):
            py = np.float32(row) + _HALF
            for column in range(left, right):
                px = np.float32(column) + _HALF
                beta = _area(ax, ay, px, py, cx, cy) * inverse
                gamma = _area(ax, ay, bx, by, px, py) * inverse
                if not (beta >= 0 and beta <= 1 and gamma >= 0 and gamma <= 1):
                    continue
                alpha = np.float32(1.0 - np.float64(beta) - np.float64(gamma))
                if alpha < 0 or alpha > 1:
                    continue
                depth = alpha * az + beta * bz + gamma * cz
                step = depth * steps
                nearest = threshold[row, column] if with_prior else np.float32(0)
                if depth >= nearest and step < _STEP_LIMIT:
                    key = np.int64(step) * KEY_BASE + f + 1
                    keys[row - first_row, column] = min(keys[row - first_row, column], key)
    for row in range(first_row, end_row):
        py = np.float32(row) + _HALF
        for column in range(width):
            key = keys[row - first_row, column]
            if key == EMPTY_KEY:
                ids[row, column] = 0
                barycentrics[row, column, 0] = barycentrics[row, column, 1] = barycentrics[row, column, 2] = 0
                continue
            f = key % KEY_BASE - 1
            ids[row, column] = f + 1
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
            cx, cy, px = screen[c, 0], screen[c, 1], np.float32(column) + _HALF
            inverse = _ONE / _area(ax, ay, bx, by, cx, cy)
            beta = _area(ax, ay, px, py, cx, cy) * inverse
            gamma = _area(ax, ay, bx, by, px, py) * inverse
            alpha = np.float32(1.0 - np.float64(beta) - np.float64(gamma))
            alpha, beta, gamma = alpha / points[a, 3], beta / points[b, 3], gamma / points[c, 3]
            scale = _ONE / (alpha + beta + gamma)
            barycentrics[row, column, 0] = alpha * scale
            barycentrics[row, column, 1] = beta * scale
            barycentrics[row, column, 2] = gamma * scale


@compiled
def interpolate_band(first_row, end_row, attributes, triangles, ids, barycentrics, out):
    """Rows of ``out`` (H, W, C) = barycentric mean of the corner attributes; background 0."""
    for row in range(first_row, end_row):
        for column in range(ids.shape[1]):
            f = ids[row, column] - 1
            if f < 0:
                for k in range(attributes.shape[1]):
                    out[row, column, k] = 0
                continue
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            u, v, w = barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2]
            for k in range(attributes.shape[1]):
                out[row, column, k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]
