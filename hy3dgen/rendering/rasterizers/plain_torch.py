"""Rasterisation with ordinary tensor operations, on any device that has float64 and 64-bit minima (CPU, CUDA).

Faces become (face, pixel) pairs of their bounding boxes, a chunk at a time; a packed depth-and-face key and a scattered
minimum decide. Minima do not depend on order, so equal inputs give equal results on CUDA too.
"""

from __future__ import annotations

import torch

from hy3dgen.rendering.rasterizers.contract import (
    DEPTH_SCALE,
    EMPTY_KEY,
    KEY_BASE,
    OCCLUSION_TRUNCATION,
    Raster,
    Rules,
)

PAIRS_PER_CHUNK = 1 << 19
"""Pairs tested at once: smaller is leaner and, up to here, not slower on a CPU."""
PAIRS_PER_CHUNK_GPU = 1 << 22


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, size: tuple[int, int], depth_prior: torch.Tensor | None, rules: Rules
) -> Raster:
    """See ``contract``. Runs on the device of ``clip``, which must not be MPS."""
    height, width = size
    screen, triangles = to_screen(clip, size, rules), faces.long()
    keys = torch.full((height * width,), EMPTY_KEY, dtype=torch.int64, device=clip.device)
    threshold = None if depth_prior is None else nearest_allowed(depth_prior)
    boxes = find_boxes(screen, triangles, size)
    budget = PAIRS_PER_CHUNK if clip.device.type == "cpu" else PAIRS_PER_CHUNK_GPU
    for first, end in _chunks(boxes[:, 4], budget):
        _draw(screen, triangles, boxes, first, end, width, threshold, rules.depth_steps, keys, budget)
    return _resolve(keys, screen, triangles, clip[:, 3], size)


def to_screen(clip: torch.Tensor, size: tuple[int, int], rules: Rules) -> torch.Tensor:
    """(V, 3) float32 column, row and depth of clip-space points (V, 4), by the contract's rules."""
    height, width = size
    w = clip[:, 3]
    return torch.stack(
        [
            (clip[:, 0] / w * 0.5 + 0.5) * rules.scale_px(width) + rules.offset_px,
            (0.5 + 0.5 * clip[:, 1] / w) * rules.scale_px(height) + rules.offset_px,
            clip[:, 2] / w * DEPTH_SCALE + 0.5,
        ],
        dim=1,
    )


def nearest_allowed(depth_prior: torch.Tensor) -> torch.Tensor:
    """(H * W,) float32: the smallest depth that may be drawn at each pixel."""
    return (depth_prior.float() * DEPTH_SCALE + 0.5 + OCCLUSION_TRUNCATION).reshape(-1)


def find_boxes(screen: torch.Tensor, triangles: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(F', 5) int64 of the faces that may show: face, first column, columns, first row, pixels.

    screen: as ``to_screen`` gives it; triangles: (F, 3) int64
    """
    height, width = size
    corners = screen[triangles]  # (F, 3, xyz)
    a, b, c = corners.unbind(1)
    area = _area(a[:, 0], a[:, 1], b[:, 0], b[:, 1], c[:, 0], c[:, 1])
    usable = (area != 0) & torch.isfinite(area) & torch.isfinite(corners).all(dim=2).all(dim=1)
    corners = torch.where(usable[:, None, None], corners, corners.new_zeros(()))
    limit = corners.new_tensor([width, height])
    low = corners[..., :2].amin(1).clamp(min=0).minimum(limit).floor().long()
    high = (corners[..., :2].amax(1) + 1).clamp(min=0).minimum(limit).ceil().long()
    extent = (high - low).clamp(min=0) * usable[:, None]
    pixels = extent.prod(dim=1)
    index = torch.arange(len(triangles), device=screen.device)
    table = torch.stack([index, low[:, 0], extent[:, 0], low[:, 1], pixels], dim=1)
    return table[pixels > 0]


def _chunks(pixels: torch.Tensor, budget: int) -> list[tuple[int, int]]:
    """Ranges of faces whose boxes hold about ``budget`` pixels together; a huge face gets a range of its own."""
    totals = pixels.cumsum(0).cpu()
    ranges, first, used = [], 0, 0
    while first < len(totals):
        end = int(torch.searchsorted(totals, used + budget, right=True))
        end = max(end, first + 1)
        ranges.append((first, end))
        first, used = end, int(totals[end - 1])
    return ranges


def _area(px, py, qx, qy, rx, ry):
    return (rx - px) * (qy - py) - (qx - px) * (ry - py)


def _weights(corners, px, py):
    a, b, c = corners.unbind(1)
    inverse = 1.0 / _area(a[:, 0], a[:, 1], b[:, 0], b[:, 1], c[:, 0], c[:, 1])
    beta = _area(a[:, 0], a[:, 1], px, py, c[:, 0], c[:, 1]) * inverse
    gamma = _area(a[:, 0], a[:, 1], b[:, 0], b[:, 1], px, py) * inverse
    return (1.0 - beta.double() - gamma.double()).float(), beta, gamma


def _draw(screen, triangles, boxes, first, end, width, threshold, steps, keys, budget):
    pixels = boxes[first:end, 4]
    total = int(pixels.sum())
    starts = pixels.cumsum(0) - pixels
    for begin in range(0, total, budget):  # more than one round only for a face larger than a chunk
        pair = torch.arange(begin, min(total, begin + budget), device=screen.device)
        box = torch.searchsorted(starts, pair, right=True) - 1
        face, left, columns, top, _ = boxes[first:end][box].unbind(1)
        local = pair - starts[box]
        column, row = left + local % columns, top + local // columns
        corners = screen[triangles[face]]
        alpha, beta, gamma = _weights(corners, column.float() + 0.5, row.float() + 0.5)
        depth = alpha * corners[:, 0, 2] + beta * corners[:, 1, 2] + gamma * corners[:, 2, 2]
        pixel = row * width + column
        nearest = threshold[pixel] if threshold is not None else 0.0
        keep = (depth >= nearest) & (depth * steps < KEY_BASE)
        for weight in (alpha, beta, gamma):
            keep &= (weight >= 0) & (weight <= 1)
        key = (depth[keep] * steps).long() * KEY_BASE + face[keep] + 1
        keys.scatter_reduce_(0, pixel[keep], key, "amin")


def _resolve(keys, screen, triangles, w, size):
    height, width = size
    pixel = (keys < EMPTY_KEY).nonzero().squeeze(1)
    ids = torch.zeros(height * width, dtype=torch.int32, device=keys.device)
    barycentrics = torch.zeros(height * width, 3, device=keys.device)
    face_id = keys[pixel] % KEY_BASE
    ids[pixel] = face_id.int()
    for part in torch.split(torch.arange(len(pixel), device=keys.device), PAIRS_PER_CHUNK_GPU):
        face = triangles[face_id[part] - 1]
        where = pixel[part]
        weights = torch.stack(_weights(screen[face], (where % width).float() + 0.5, (where // width).float() + 0.5), 1)
        weights = weights / w[face]
        total = weights[:, 0] + weights[:, 1] + weights[:, 2]
        barycentrics[where] = weights * (1.0 / total)[:, None]
    return Raster(ids.view(height, width), barycentrics.view(height, width, 3))
