"""The generator on the CPU: numba loops over the scalar functions, for float32 tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from benchmarks.shapes.folding import estimate, fold
from training.generator.kernels import Parts, SceneRows
from training.generator.orthographic import MAP_CHANNELS, draw_maps
from training.generator.scalar import cell, mixed, pixel, surface_point, through

_LOOP: dict[str, Any] = {"parallel": True, "cache": True, "error_model": "numpy"}
STREAM = 305419896  # first word of every point's stream


@njit(**_LOOP)
def _fold(rows, counts, poses, points, values, kinds):  # type: ignore[no-untyped-def]
    for b in prange(rows.shape[0]):
        for i in range(points.shape[1]):
            p = points[b, i]
            values[b, i], kinds[b, i] = fold(rows[b, : counts[b]], poses[b], p[0], p[1], p[2])


@njit(**_LOOP)
def _field(rows, counts, poses, points, values):  # type: ignore[no-untyped-def]
    for b in prange(rows.shape[0]):
        for i in range(points.shape[1]):
            p = points[b, i]
            values[b, i] = estimate(rows[b, : counts[b]], poses[b], p[0], p[1], p[2])


@njit(**_LOOP)
def _surface(rows, counts, poses, boxes, seed, out, found):  # type: ignore[no-untyped-def]
    for b in prange(rows.shape[0]):
        for i in range(out.shape[1]):
            state = mixed(mixed(mixed(STREAM, seed), b), i)
            o = out[b, i]
            o[0], o[1], o[2], o[3], o[4], o[5], found[b, i] = surface_point(
                rows[b, : counts[b]], poses[b], boxes[b], state
            )


@njit(**_LOOP)
def _through(rows, counts, poses, boxes, points, ways, skips, out, found):  # type: ignore[no-untyped-def]
    for b in prange(rows.shape[0]):
        for i in range(out.shape[1]):
            p, d, o = points[b, i], ways[b, i], out[b, i]
            o[0], o[1], o[2], o[3], o[4], o[5], found[b, i] = through(
                rows[b, : counts[b]], poses[b], boxes[b], p[0], p[1], p[2], d[0], d[1], d[2], skips[b, i]
            )


@njit(**_LOOP)
def _picture(rows, counts, poses, cameras, lights, effects, materials, halves, out):  # type: ignore[no-untyped-def]
    size = out.shape[1]
    for b in prange(rows.shape[0]):
        for i in range(size * size):
            y, x = i // size, i % size
            r, g, u, hit = pixel(
                rows[b, : counts[b]], poses[b], cameras[b], lights[b], effects[b], materials[b], halves[b], size, x, y
            )
            o = out[b, y, x]
            o[0], o[1], o[2] = int(r * 255.0 + 0.5), int(g * 255.0 + 0.5), int(u * 255.0 + 0.5)
            o[3] = 255 if hit else 0


@njit(**_LOOP)
def _cells(rows, counts, poses, cameras, halves, size, step, out):  # type: ignore[no-untyped-def]
    grid = out.shape[1]
    for b in prange(rows.shape[0]):
        for i in range(grid * grid):
            y, x = i // grid, i % grid
            o = out[b, y, x]
            o[0], o[1], o[2], o[3], o[4], o[5] = cell(
                rows[b, : counts[b]], poses[b], cameras[b], halves[b], size, x * step + step // 2, y * step + step // 2
            )


@njit(**_LOOP)
def _maps(rows, counts, poses, materials, frames, views, out):  # type: ignore[no-untyped-def]
    for b in prange(rows.shape[0]):
        draw_maps(rows[b, : counts[b]], poses[b], materials[b], frames[b], views, out[b])


class CpuKernels:
    """``kernels.Kernels`` on the CPU, as many threads as numba has."""

    def fold(self, parts: Parts, points: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.empty(points.shape[:2])
        kinds = torch.empty(points.shape[:2], dtype=torch.int64)
        _fold(*_arrays(*parts, points, values, kinds))
        return values, kinds

    def field(self, parts: Parts, points: Tensor) -> Tensor:
        values = torch.empty(points.shape[:2])
        _field(*_arrays(*parts, points, values))
        return values

    def surface(self, parts: Parts, boxes: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
        out, found = torch.empty(len(boxes), count, 6), torch.empty(len(boxes), count, dtype=torch.bool)
        _surface(*_arrays(*parts, boxes), seed, *_arrays(out, found))
        return out, found

    def through(
        self, parts: Parts, boxes: Tensor, points: Tensor, ways: Tensor, skips: Tensor
    ) -> tuple[Tensor, Tensor]:
        out, found = torch.empty(*points.shape[:2], 6), torch.empty(points.shape[:2], dtype=torch.bool)
        _through(*_arrays(*parts, boxes, points, ways, skips, out, found))
        return out, found

    def picture(self, parts: Parts, scene: SceneRows, halves: Tensor, size_px: int) -> Tensor:
        out = torch.empty(len(halves), size_px, size_px, 4, dtype=torch.uint8)
        _picture(*_arrays(*parts, *scene, halves, out))
        return out

    def cells(self, parts: Parts, cameras: Tensor, halves: Tensor, size_px: int, cell_px: int) -> Tensor:
        grid = size_px // cell_px
        out = torch.empty(len(halves), grid, grid, 6)
        _cells(*_arrays(*parts, cameras, halves), size_px, cell_px, *_arrays(out))
        return out

    def maps(self, parts: Parts, materials: Tensor, frames: Tensor, views: Tensor, size_px: int) -> Tensor:
        out = torch.empty(len(frames), len(views), MAP_CHANNELS, size_px, size_px, dtype=torch.uint8)
        _maps(*_arrays(*parts, materials, frames, views, out))
        return out


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    """Views of the tensors' memory."""
    return [tensor.contiguous().numpy() for tensor in tensors]
