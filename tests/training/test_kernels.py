"""The fast generator: numba's loops against plain torch, and the C written for CUDA, run on the CPU, against numba."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from benchmarks.shapes import CATEGORIES, shape
from benchmarks.shapes.render import EFFECT_FLOATS
from hy3dgen.errors import UsageError
from training.generator import cuda, pictures
from training.generator.kernels import SceneRows, kernels_for
from training.generator.loops import CpuKernels
from training.generator.orthographic import frame_rows
from training.generator.solids import Solids
from training.generator.stream import Lot
from training.generator.translate import cuda_source
from training.paint.trace import VIEWS

SHAPES = [shape(name, 5) for name in CATEGORIES]
SIZE = 56
VIEW_ROWS = torch.from_numpy(VIEWS).float()
# A host for the CUDA program: blocks and threads one after the other.
HOST = """
#include <math.h>
#include <stdlib.h>
#define DEVICE static inline
#define APART static
#define __global__
static struct { int x, y; } blockIdx, threadIdx, blockDim;
PROGRAM
#define RUN(batch, items, call) \\
  blockDim.x = 1; threadIdx.x = 0; \\
  for (int b = 0; b < batch; ++b) for (int i = 0; i < items; ++i) { blockIdx.x = i; blockIdx.y = b; call; }

#define TAKEN int batch, SHAPES
extern "C" void fold(TAKEN, const float* p, int n, float* v, long long* k) {
  RUN(batch, n, k_fold(all_rows, counts, poses, most, width, p, n, v, k)) }
extern "C" void field(TAKEN, const float* p, int n, float* v) {
  RUN(batch, n, k_field(all_rows, counts, poses, most, width, p, n, v)) }
extern "C" void surface(TAKEN, const float* boxes, int n, long long seed, float* o, bool* f) {
  RUN(batch, n, k_surface(all_rows, counts, poses, most, width, boxes, n, seed, o, f)) }
extern "C" void through(TAKEN, const float* boxes, const float* p, const float* d, const long long* s, int n, float* o,
    bool* f) {
  RUN(batch, n, k_through(all_rows, counts, poses, most, width, boxes, p, d, s, n, o, f)) }
extern "C" void picture(TAKEN, const float* c, const float* l, const float* e, const float* m, int kinds, int columns,
    const float* h, int size, unsigned char* o) {
  RUN(batch, size * size, k_picture(all_rows, counts, poses, most, width, c, l, e, m, kinds, columns, h, size, o)) }
extern "C" void cells(TAKEN, const float* c, const float* h, int size, int step, float* o) {
  RUN(batch, (size / step) * (size / step), k_cells(all_rows, counts, poses, most, width, c, h, size, step, o)) }
extern "C" void maps(TAKEN, const float* m, int kinds, int columns, const float* f, const float* v, int views, int size,
    unsigned char* o) {
  RUN(batch, views * size * size,
      k_maps(all_rows, counts, poses, most, width, m, kinds, columns, f, v, views, size, o)) }
"""


def solids(engine: str) -> Solids:
    packed = Solids.pack([item.rows for item in SHAPES], [item.pose for item in SHAPES])
    return Solids(packed.rows, packed.counts, packed.poses, kernels_for(torch.device("cpu"), engine))


def points(count: int = 300) -> torch.Tensor:
    return torch.rand(len(SHAPES), count, 3, generator=torch.Generator().manual_seed(0)) * 2.1 - 1.05


def scene(lot: Lot) -> SceneRows:
    cameras = pictures.fit_windows(lot.points(200, torch.Generator().manual_seed(0)), lot.views)
    effects = torch.zeros(len(lot), EFFECT_FLOATS)
    effects[:, 0] = torch.arange(len(lot)) % 3
    effects[:, 1:4] = torch.linspace(0.8, 1.2, 3)
    effects[:, 4] = torch.arange(len(lot)) % 2
    return SceneRows(cameras, lot.lights, effects, lot.materials)


def test_loops_equal_plain_torch():
    fast, plain, where = solids("kernels"), solids("torch"), points()
    assert fast.kernels is not None and plain.kernels is None
    for one, two in zip(fast.fold(where), plain.fold(where), strict=True):
        assert (one - two).abs().float().quantile(0.999) < 1e-4
    assert (fast.field(where) - plain.field(where)).abs().quantile(0.999) < 1e-3


def test_pictures_of_loops_equal_plain_torch(lot: Lot):
    cameras = pictures.fit_windows(lot.points(200, torch.Generator().manual_seed(0)), lot.views)
    rows = pictures.scene_of(cameras, lot.lights, lot.materials)
    effects = scene(lot).effects
    plain = Solids(lot.solids.rows, lot.solids.counts, lot.solids.poses)
    assert lot.solids.kernels is not None
    for halves in (None, lot.halves):
        fast, side = pictures.render(lot.solids, rows, SIZE, effects=effects, halves=halves)
        slow, same = pictures.render(plain, rows, SIZE, effects=effects, halves=halves)
        difference = (fast.int() - slow.int()).abs().amax(-1)
        assert (difference > 3).float().mean() < 0.01  # a ray that grazes, a pattern's edge
        assert (side - same).abs().quantile(0.98) < 5e-3


def test_surface_points_of_both_engines_are_spread_alike(lot: Lot):
    plain = Solids(lot.solids.rows, lot.solids.counts, lot.solids.poses)
    from training.generator import surface

    fast = lot.points(1500, torch.Generator().manual_seed(1))
    slow = surface.sample(plain, -lot.halves, lot.halves, 1500, torch.Generator().manual_seed(2))[0]
    for moment in (fast.mean(1) - slow.mean(1), fast.std(1) - slow.std(1)):
        assert moment.abs().max() < 0.12
    again = lot.points(1500, torch.Generator().manual_seed(1))
    assert torch.equal(fast, again)
    other = lot.points(1500, torch.Generator().manual_seed(3))
    assert not torch.equal(fast, other)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    folder: Path = tmp_path_factory.mktemp("host")
    (folder / "host.cpp").write_text(HOST.replace("PROGRAM", cuda.program()))
    library = folder / "host.so"
    command = [compiler, "-O1", "-std=c++17", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unused-variable"]
    command += ["-Wno-unused-function", "-Wno-unused-but-set-variable", str(folder / "host.cpp"), "-o", str(library)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(library))


class HostKernels(cuda.CudaKernels):
    """The CUDA kernels' own launching code, with the host in the place of a device."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def _launch(self, name: str, parts: Any, items: int, *arguments: Any) -> None:
        batch, most, width = parts.rows.shape
        everything = (batch, *parts, most, width, *arguments)
        function = getattr(self._library, name.removeprefix("k_"))
        function(*(self._given(value) for value in everything))

    @staticmethod
    def _given(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            assert value.is_contiguous()
            return ctypes.c_void_p(value.data_ptr())
        return ctypes.c_longlong(int(value)) if isinstance(value, np.int64) else ctypes.c_int(int(value))


def test_the_cuda_program_computes_what_numba_computes(host: Any, lot: Lot):
    here, there = CpuKernels(), HostKernels(host)
    parts, where = solids("torch").parts, points()
    values, kinds = there.fold(parts, where)
    truth, true_kinds = here.fold(parts, where)
    assert (values - truth).abs().quantile(0.999) < 1e-4 and (kinds == true_kinds).float().mean() > 0.999
    assert (there.field(parts, where) - here.field(parts, where)).abs().quantile(0.999) < 1e-3
    parts, boxes = lot.solids.parts, torch.cat([-lot.halves, lot.halves], 1)
    made, found = there.surface(parts, boxes, 200, 7)
    truth, true_found = here.surface(parts, boxes, 200, 7)
    assert (found == true_found).float().mean() > 0.99 and bool(found.float().mean() > 0.99)
    assert ((made - truth).abs().amax(-1) < 5e-3).float().mean() > 0.95  # a ray may graze in one and not in the other
    rows = scene(lot)
    for halves in (lot.halves, torch.zeros_like(lot.halves)):
        difference = there.picture(parts, rows, halves, SIZE).int() - here.picture(parts, rows, halves, SIZE).int()
        assert (difference.abs().amax(-1) > 3).float().mean() < 0.01
        side = there.cells(parts, rows.cameras, halves, SIZE, 7) - here.cells(parts, rows.cameras, halves, SIZE, 7)
        assert side.abs().quantile(0.98) < 5e-3
    ways, skips = (
        torch.nn.functional.normalize(where[: len(lot)], dim=-1),
        torch.zeros(len(lot), 300, dtype=torch.int64),
    )
    made, found = there.through(parts, boxes, where[: len(lot)] / 2, ways, skips)
    truth, true_found = here.through(parts, boxes, where[: len(lot)] / 2, ways, skips)
    assert (found == true_found).float().mean() > 0.99
    assert ((made - truth)[found & true_found].abs().amax(-1) < 5e-3).float().mean() > 0.95


@pytest.mark.parametrize("size", [SIZE, 50])
def test_maps_of_the_cuda_program_are_those_of_numba(host: Any, lot: Lot, size: int):
    frames = frame_rows(lot.points(200, torch.Generator().manual_seed(0))[..., :3])
    given = lot.solids.parts, lot.materials, frames, VIEW_ROWS, size
    made, truth = HostKernels(host).maps(*given), CpuKernels().maps(*given)
    assert made.shape == (len(lot), 6, 9, size, size)
    assert 0.05 < (truth[:, :, 3:] < 255).any(2).float().mean() < 0.9
    difference = (made.int() - truth.int()).abs().amax(2)
    assert (difference > 1).float().mean() < 0.01  # a ray that grazes, a pattern's edge


def test_the_cuda_program_compiles_for_the_gpu(tmp_path: Path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no CUDA compiler on this machine")
    (tmp_path / "program.cu").write_text(cuda.program())
    command = [
        compiler,
        "-arch=sm_80",
        *cuda.OPTIONS,
        "-cubin",
        "-o",
        str(tmp_path / "out"),
        str(tmp_path / "program.cu"),
    ]
    subprocess.run(command, check=True)


@njit
def _with_a_list(x: float) -> float:
    values = [x, x]
    return values[0]


@njit
def _without_annotation(x) -> float:  # type: ignore[no-untyped-def]
    return x


@pytest.mark.parametrize("function", [_with_a_list, _without_annotation])
def test_what_cannot_be_written_is_refused(function: Any):
    with pytest.raises(UsageError, match="cannot be written in C"):
        cuda_source([function])


@njit
def _arithmetic(x: float, n: int) -> tuple[float, int]:
    total, k = 0.0, 0
    for i in range(1, n):
        if i == 3:
            continue
        total += i * x if i & 1 else -x / i
        total, k = total * 0.5, i
    return max(total, -5.0, x) ** 2.0, k % 4


def test_integers_and_floats_keep_their_rules(tmp_path: Path):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    source = "#include <math.h>\n#include <stdlib.h>\n#define DEVICE static\n#define APART static\n"
    source += cuda_source([_arithmetic])
    source += 'extern "C" float run(float x, int n, int* k) {'
    source += " auto r = test_kernels_arithmetic(x, n); *k = r.v1; return r.v0; }"
    (tmp_path / "a.cpp").write_text(source)
    subprocess.run([compiler, "-shared", "-fPIC", str(tmp_path / "a.cpp"), "-o", str(tmp_path / "a.so")], check=True)
    run = ctypes.CDLL(str(tmp_path / "a.so")).run
    run.restype = ctypes.c_float
    for x in (-1.5, 0.25, 3.0):
        k = ctypes.c_int()
        value = run(ctypes.c_float(x), 8, ctypes.byref(k))
        assert value == pytest.approx(_arithmetic(x, 8)[0], rel=1e-5) and k.value == _arithmetic(x, 8)[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_kernels_on_the_gpu_equal_those_on_the_cpu(lot: Lot):
    device = torch.device("cuda")
    there, here = kernels_for(device, "kernels"), CpuKernels()
    assert there is not None
    parts, where = lot.solids.parts, points()[: len(lot)]
    moved = type(parts)(*(values.to(device) for values in parts))
    assert (there.field(moved, where.to(device)).cpu() - here.field(parts, where)).abs().quantile(0.99) < 2e-3
    rows = scene(lot)
    rows_there = type(rows)(*(values.to(device) for values in rows))
    seen = there.picture(moved, rows_there, lot.halves.to(device), SIZE).cpu()
    assert ((seen.int() - here.picture(parts, rows, lot.halves, SIZE).int()).abs().amax(-1) > 4).float().mean() < 0.02
    given = lot.materials, frame_rows(lot.points(200, torch.Generator().manual_seed(0))[..., :3]), VIEW_ROWS
    maps = there.maps(moved, *(values.to(device) for values in given), SIZE).cpu()
    assert ((maps.int() - here.maps(parts, *given, SIZE).int()).abs().amax(2) > 2).float().mean() < 0.02
