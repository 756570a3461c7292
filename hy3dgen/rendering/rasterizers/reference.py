"""The rasterisation rules, one face after the other, as plainly as they can be written. Slow; for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hy3dgen.rendering.rasterizers.contract import (
    DEPTH_SCALE,
    EMPTY_KEY,
    KEY_BASE,
    OCCLUSION_TRUNCATION,
    Raster,
    Rules,
)

F32 = np.float32


def _area(px, py, qx, qy, rx, ry):
    return (rx - px) * (qy - py) - (qx - px) * (ry - py)


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, size: tuple[int, int], depth_prior: torch.Tensor | None, rules: Rules
) -> Raster:
    """See ``contract``. Works on the CPU whatever the device of ``clip``."""
    with np.errstate(all="ignore"):
        height, width = size
        points = clip.detach().cpu().numpy().astype(F32)
        triangles = faces.cpu().numpy()
        x, y, z, w = points.T
        screen = np.stack(
            [
                (x / w * F32(0.5) + F32(0.5)) * F32(rules.scale_px(width)) + F32(rules.offset_px),
                (F32(0.5) + F32(0.5) * y / w) * F32(rules.scale_px(height)) + F32(rules.offset_px),
                z / w * F32(DEPTH_SCALE) + F32(0.5),
            ],
            axis=1,
        ).astype(F32)
        threshold = np.zeros((height, width), F32)
        if depth_prior is not None:
            prior = depth_prior.cpu().numpy().astype(F32)
            threshold = prior * F32(DEPTH_SCALE) + F32(0.5) + F32(OCCLUSION_TRUNCATION)
        keys = np.full((height, width), EMPTY_KEY, np.int64)
        for index, face in enumerate(triangles):
            _draw(index, screen[face], threshold, rules.depth_steps, keys)
        ids = np.where(keys < EMPTY_KEY, keys % KEY_BASE, 0).astype(np.int32)
        barycentrics = np.zeros((height, width, 3), F32)
        for row, column in zip(*np.nonzero(ids)):
            face = triangles[ids[row, column] - 1]
            weights = np.array(_weights(screen[face], F32(column) + F32(0.5), F32(row) + F32(0.5)), F32) / w[face]
            barycentrics[row, column] = weights * (F32(1) / (weights[0] + weights[1] + weights[2]))
    return Raster(torch.from_numpy(ids).to(clip.device), torch.from_numpy(barycentrics).to(clip.device))


def _weights(corners: np.ndarray, px: Any, py: Any):
    (ax, ay, _), (bx, by, _), (cx, cy, _) = corners
    inverse = F32(1) / _area(ax, ay, bx, by, cx, cy)
    beta = _area(ax, ay, px, py, cx, cy) * inverse
    gamma = _area(ax, ay, bx, by, px, py) * inverse
    alpha = (1.0 - beta.astype(np.float64) - gamma.astype(np.float64)).astype(F32)
    return alpha, beta, gamma


def _draw(index: int, corners: np.ndarray, threshold: np.ndarray, steps: int, keys: np.ndarray) -> None:
    height, width = keys.shape
    area = _area(*corners[0, :2], *corners[1, :2], *corners[2, :2])
    if area == 0 or not np.isfinite(area) or not np.isfinite(corners).all():
        return
    columns = _candidates(corners[:, 0], width)
    rows = _candidates(corners[:, 1], height)
    py, px = np.meshgrid(rows.astype(F32) + F32(0.5), columns.astype(F32) + F32(0.5), indexing="ij")
    alpha, beta, gamma = _weights(corners, px, py)
    depth = alpha * corners[0, 2] + beta * corners[1, 2] + gamma * corners[2, 2]
    window = np.ix_(rows, columns)
    inside = np.ones(depth.shape, bool)
    for weight in (alpha, beta, gamma):
        inside &= (weight >= 0) & (weight <= 1)
    step = depth * F32(steps)
    inside &= (depth >= threshold[window]) & (step < F32(KEY_BASE))
    key = np.where(inside, step, 0).astype(np.int64) * KEY_BASE + index + 1
    keys[window] = np.where(inside, np.minimum(keys[window], key), keys[window])


def _candidates(values: np.ndarray, size: int) -> np.ndarray:
    first = int(np.trunc(values.min()))
    pixels = np.arange(max(first, 0), max(0, min(size, int(np.ceil(values.max() + F32(1))))))
    return pixels[pixels.astype(F32) < values.max() + F32(1)]
