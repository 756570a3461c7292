"""The generator as CUDA kernels: the scalar functions in C (``translate``), one thread a point, ray or pixel.

Compiled at run time by CuPy, which brings no part of its own into the results; tensors stay torch's and kernels run on
torch's current stream. Without CuPy the plain torch generator does the work.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.shapes import folding
from benchmarks.shapes.render import EFFECT_FLOATS
from training.generator import scalar
from training.generator.kernels import Parts, SceneRows
from training.generator.loops import STREAM
from training.generator.orthographic import FRAME_FLOATS, MAP_CHANNELS, VIEW_FLOATS, map_byte, map_pixel
from training.generator.translate import cuda_source

THREADS = 128
OPTIONS = ("--use_fast_math", "-std=c++17")
# A program: kernels over (shape, item) pairs. blockIdx.y is the shape.
KERNELS = r"""
#define ITEM(n) long long b = blockIdx.y; int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= (n)) return;
#define SHAPE Table rows = {all_rows + b * most * width, (int)counts[b], width}; const float* pose = poses + b * 13;
#define SHAPES const float* all_rows, const long long* counts, const float* poses, int most, int width
// neighbouring threads trace neighbouring pixels
#define TILED(n) if (size % 8 == 0) { int tile = (n) / 64, in = (n) % 64; \
  px = (tile % (size / 8)) * 8 + in % 8; py = (tile / (size / 8)) * 8 + in / 8; }

extern "C" __global__ void k_fold(SHAPES, const float* points, int n, float* values, long long* kinds) {
  ITEM(n) SHAPE
  const float* p = points + (b * n + i) * 3;
  folding_fold_t r = folding_fold(rows, pose, p[0], p[1], p[2]);
  values[b * n + i] = r.v0; kinds[b * n + i] = r.v1;
}

extern "C" __global__ void k_field(SHAPES, const float* points, int n, float* values) {
  ITEM(n) SHAPE
  const float* p = points + (b * n + i) * 3;
  values[b * n + i] = folding_estimate(rows, pose, p[0], p[1], p[2]);
}

extern "C" __global__ void k_surface(SHAPES, const float* boxes, int n, long long seed, float* out, bool* found) {
  ITEM(n) SHAPE
  long long state = scalar_mixed(scalar_mixed(scalar_mixed(STREAM, seed), b), i);
  scalar_surface_point_t r = scalar_surface_point(rows, pose, boxes + b * 6, state);
  float* o = out + (b * n + i) * 6;
  o[0] = r.v0; o[1] = r.v1; o[2] = r.v2; o[3] = r.v3; o[4] = r.v4; o[5] = r.v5; found[b * n + i] = r.v6;
}

extern "C" __global__ void k_through(
    SHAPES, const float* boxes, const float* points, const float* ways, const long long* skips, int n, float* out,
    bool* found) {
  ITEM(n) SHAPE
  const float* p = points + (b * n + i) * 3; const float* d = ways + (b * n + i) * 3;
  int skip = (int)skips[b * n + i];
  scalar_through_t r = scalar_through(rows, pose, boxes + b * 6, p[0], p[1], p[2], d[0], d[1], d[2], skip);
  float* o = out + (b * n + i) * 6;
  o[0] = r.v0; o[1] = r.v1; o[2] = r.v2; o[3] = r.v3; o[4] = r.v4; o[5] = r.v5; found[b * n + i] = r.v6;
}

extern "C" __global__ void k_picture(
    SHAPES, const float* cameras, const float* lights, const float* effects, const float* all_materials, int kinds,
    int columns, const float* halves, int size, unsigned char* out) {
  ITEM(size * size) SHAPE
  int px = i % size, py = i / size;
  TILED(i)
  Table materials = {all_materials + b * kinds * columns, kinds, columns};
  scalar_pixel_t r = scalar_pixel(
      rows, pose, cameras + b * 6, lights + b * 9, effects + b * EFFECTS, materials, halves + b * 3, size, px, py);
  unsigned char* o = out + ((b * size + py) * size + px) * 4;
  o[0] = (unsigned char)(r.v0 * 255.f + .5f); o[1] = (unsigned char)(r.v1 * 255.f + .5f);
  o[2] = (unsigned char)(r.v2 * 255.f + .5f); o[3] = r.v3 ? 255 : 0;
}

extern "C" __global__ void k_cells(SHAPES, const float* cameras, const float* halves, int size, int step, float* out) {
  int grid = size / step;
  ITEM(grid * grid) SHAPE
  int px = (i % grid) * step + step / 2, py = (i / grid) * step + step / 2;
  scalar_cell_t r = scalar_cell(rows, pose, cameras + b * 6, halves + b * 3, size, px, py);
  float* o = out + (b * grid * grid + i) * 6;
  o[0] = r.v0; o[1] = r.v1; o[2] = r.v2; o[3] = r.v3; o[4] = r.v4; o[5] = r.v5;
}

extern "C" __global__ void k_maps(
    SHAPES, const float* all_materials, int kinds, int columns, const float* frames, const float* views, int count,
    int size, unsigned char* out) {
  ITEM(count * size * size) SHAPE
  int view = i / (size * size), at = i % (size * size), px = at % size, py = at / size;
  TILED(at)
  Table materials = {all_materials + b * kinds * columns, kinds, columns};
  orthographic_map_pixel_t r = orthographic_map_pixel(
      rows, pose, materials, frames + b * FRAME, views + view * VIEW, size, px, py);
  float values[9] = {r.v0, r.v1, r.v2, r.v3, r.v4, r.v5, r.v6, r.v7, r.v8};
  unsigned char* o = out + ((b * count + view) * 9 * size + py) * size + px;
  for (int k = 0; k < 9; ++k) o[(long long)k * size * size] = (unsigned char)orthographic_map_byte(values[k]);
}
"""


def program() -> str:
    """The whole CUDA source."""
    functions = [folding.estimate, scalar.mixed, scalar.surface_point, scalar.pixel, scalar.cell]
    source = cuda_source([*functions, map_pixel, map_byte], apart=[folding.fold])
    constants = {"EFFECTS": EFFECT_FLOATS, "STREAM": f"{STREAM}LL", "FRAME": FRAME_FLOATS, "VIEW": VIEW_FLOATS}
    defined = "\n".join(f"#define {name} {value}" for name, value in constants.items())
    return f"{source}\n{defined}\n{KERNELS}"


@cache
def _module(device: int) -> Any:
    import cupy

    with cupy.cuda.Device(device):
        return cupy.RawModule(code=program(), options=OPTIONS)


class CudaKernels:
    """``kernels.Kernels`` on one CUDA device. Compiled at the first call, in some seconds."""

    def __init__(self, device: torch.device) -> None:
        self._device = torch.cuda.current_device() if device.index is None else device.index

    def fold(self, parts: Parts, points: Tensor) -> tuple[Tensor, Tensor]:
        points = points.float().contiguous()
        batch, count = points.shape[:2]
        values = points.new_empty(batch, count)
        kinds = torch.empty(batch, count, dtype=torch.int64, device=points.device)
        self._launch("k_fold", parts, count, points, np.int32(count), values, kinds)
        return values, kinds

    def field(self, parts: Parts, points: Tensor) -> Tensor:
        points = points.float().contiguous()
        values = points.new_empty(points.shape[:2])
        self._launch("k_field", parts, points.shape[1], points, np.int32(points.shape[1]), values)
        return values

    def surface(self, parts: Parts, boxes: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
        out = boxes.new_empty(len(boxes), count, 6)
        found = torch.empty(len(boxes), count, dtype=torch.bool, device=boxes.device)
        self._launch("k_surface", parts, count, boxes.contiguous(), np.int32(count), np.int64(seed), out, found)
        return out, found

    def through(
        self, parts: Parts, boxes: Tensor, points: Tensor, ways: Tensor, skips: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, count = points.shape[:2]
        out = boxes.new_empty(batch, count, 6)
        found = torch.empty(batch, count, dtype=torch.bool, device=boxes.device)
        given = [values.contiguous() for values in (boxes, points, ways, skips)]
        self._launch("k_through", parts, count, *given, np.int32(count), out, found)
        return out, found

    def picture(self, parts: Parts, scene: SceneRows, halves: Tensor, size_px: int) -> Tensor:
        cameras, lights, effects, materials = (values.contiguous() for values in scene)
        out = torch.empty(len(cameras), size_px, size_px, 4, dtype=torch.uint8, device=cameras.device)
        kinds, columns = (np.int32(extent) for extent in materials.shape[1:])
        given = [cameras, lights, effects, materials, kinds, columns, halves.contiguous(), np.int32(size_px), out]
        self._launch("k_picture", parts, size_px**2, *given)
        return out

    def cells(self, parts: Parts, cameras: Tensor, halves: Tensor, size_px: int, cell_px: int) -> Tensor:
        grid = size_px // cell_px
        out = cameras.new_empty(len(cameras), grid, grid, 6)
        given = [cameras.contiguous(), halves.contiguous(), np.int32(size_px), np.int32(cell_px), out]
        self._launch("k_cells", parts, grid**2, *given)
        return out

    def maps(self, parts: Parts, materials: Tensor, frames: Tensor, views: Tensor, size_px: int) -> Tensor:
        shape = (len(frames), len(views), MAP_CHANNELS, size_px, size_px)
        out = torch.empty(shape, dtype=torch.uint8, device=frames.device)
        kinds, columns, count, size = (np.int32(extent) for extent in (*materials.shape[1:], len(views), size_px))
        given = [materials.contiguous(), kinds, columns, frames.contiguous(), views.contiguous(), count, size, out]
        self._launch("k_maps", parts, len(views) * size_px**2, *given)
        return out

    def _launch(self, name: str, parts: Parts, items: int, *arguments: Tensor | np.generic) -> None:
        """One thread for each of ``items`` of each shape."""
        batch, most, width = parts.rows.shape
        if not batch or not items:
            return
        import cupy

        rows, counts, poses = (values.contiguous() for values in parts)
        everything = (rows, counts, poses, np.int32(most), np.int32(width), *arguments)
        given = tuple(np.uint64(v.data_ptr()) if isinstance(v, Tensor) else v for v in everything)
        grid, block = ((items + THREADS - 1) // THREADS, batch), (THREADS,)
        with cupy.cuda.Device(self._device):
            stream = torch.cuda.current_stream(self._device).cuda_stream
            with cupy.cuda.ExternalStream(stream):
                _module(self._device).get_function(name)(grid, block, given)
