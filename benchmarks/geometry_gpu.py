"""The geometry stages on a CUDA device: device events, medians, results compared with the host's.

    python -m benchmarks.geometry_gpu [--budget-s 65]

A row that fails keeps its error and the next one runs; rows that would start after the budget are left out and say so.
Runs with torch, numpy, scipy, scikit-image, OpenCV, numba and Pillow; uvunwrap or xatlas is used when present.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.rasterizers import Raster, automatic, interpolate, rasterize
from hy3dgen.rendering.surface import RasterMesh
from hy3dgen.runtime.device import pick_device
from hy3dgen.shapegen.models.autoencoders import cubes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/geometry_gpu.json"
SIZE = (2048, 2048)
GRID_POINTS = 385
RASTER_FACES, BAKE_FACES = 79_000, 40_000
MIN_RUNS, MAX_RUNS, SECONDS_PER_ROW = 5, 50, 1.0

Row = dict[str, Any]

# Written before the first measurement: bytes that a row cannot avoid, and what it was expected to take on an H100.
EXPECTED: dict[str, tuple[int, float, str]] = {
    "extract 385³": (251, 4.0, "grid read once, mesh written; expected: the eight corner passes move 2.7 GB, one sort"),
    "extract 385³, mesh to the host": (251, 8.0, "the same, and 14 MB to the host"),
    "raster front, triton": (134, 0.6, "keys written and read, ids and barycentrics written; expected: launches"),
    "raster front, torch": (134, 6.0, "the same; expected: tables of (face, pixel) pairs"),
    "raster UV page, triton": (134, 0.6, "as the front view"),
    "raster UV page, torch": (134, 6.0, "as the front view"),
    "carry three values": (117, 1.0, "raster read, values written; expected: 160 launches"),
    "bake six views, paint stage": (3900, 180.0, "raster, splat, merge; expected: edges, on the host"),
    "bake six views, project": (1000, 1000.0, "texels read, sums written; expected: fit and fill, on the host"),
}  # fmt: skip


def field(points: int, device: torch.device) -> torch.Tensor:
    """(points,)³ float32 on the device: a wavy ball, positive inside, one smooth closed surface."""
    line = torch.linspace(-1.01, 1.01, points, device=device)
    x, y, z = line[:, None, None], line[None, :, None], line[None, None, :]
    return 0.75 - (x * x + 1.3 * y * y + z * z).sqrt() + 0.12 * (9 * x).sin() * (7 * y + z).cos() * (8 * z + 1).sin()


def mesh_of(faces: int, device: torch.device) -> Mesh:
    """The surface of ``field`` with about so many faces, outward, in [-1.01, 1.01]³."""
    coarse = len(cubes.surface(field(65, device), 0.0)[1])
    points = round(64 * (faces / coarse) ** 0.5) + 1
    vertices, triangles = cubes.surface(field(points, device), 0.0)
    placed = vertices * (2.02 / (points - 1)) - 1.01
    return Mesh(placed.cpu().numpy(), np.ascontiguousarray(triangles.flip(1).to(torch.int32).cpu().numpy()))


def with_map(mesh: Mesh) -> tuple[Mesh, str]:
    """The mesh with a UV map and who made it; without an unwrapping library, two faces share a cell of a grid."""
    from hy3dgen.errors import Hy3dgenError
    from hy3dgen.meshes.unwrap import unwrap

    try:
        return unwrap(mesh, size_px=SIZE[0]), "unwrap"
    except (ImportError, Hy3dgenError) as error:
        print(f"no unwrapping library ({type(error).__name__}); a grid of cells is used", flush=True)
    count = len(mesh.faces)
    side = int(np.ceil(np.sqrt((count + 1) // 2)))
    cell, upper = np.divmod(np.arange(count), 2)
    low = np.stack([cell % side, cell // side], 1).astype(np.float32)
    corners = np.array([[[0.05, 0.05], [0.85, 0.05], [0.05, 0.85]], [[0.95, 0.95], [0.15, 0.95], [0.95, 0.15]]])
    uv = ((low[:, None] + corners[upper]) / side).reshape(-1, 2).astype(np.float32)
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    return Mesh(mesh.vertices[mesh.faces.reshape(-1)], faces, uv=uv), "grid of cells"


@dataclass(frozen=True)
class Bench:
    """What the rows share, made when first needed."""

    device: torch.device

    @cached_property
    def grid(self) -> torch.Tensor:
        """The field where it is known: three cells to either side of the surface, NaN elsewhere."""
        dense = field(GRID_POINTS, self.device)
        return torch.where(dense.abs() < 3 * 2.02 / (GRID_POINTS - 1), dense, torch.nan)

    @cached_property
    def raster_mesh(self) -> Mesh:
        return mesh_of(RASTER_FACES, self.device)

    @cached_property
    def bake_mesh(self) -> tuple[Mesh, str]:
        return with_map(mesh_of(BAKE_FACES, self.device))

    @cached_property
    def pictures(self) -> list[Any]:
        from benchmarks import seams

        return seams.six_pictures(self.bake_mesh[0], SIZE[0] // 2)

    def front(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Clip-space points and faces of the raster mesh from the front, on the device."""
        points = torch.from_numpy(self.raster_mesh.vertices).to(self.device)
        clip = torch.stack([points[:, 0], -points[:, 1], -points[:, 2] * 0.5, torch.ones_like(points[:, 0])], 1)
        return clip, torch.from_numpy(self.raster_mesh.faces).to(self.device)

    def page(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The UV page of the bake mesh as clip-space points, and its faces, on the device."""
        mesh = self.bake_mesh[0]
        assert mesh.uv is not None
        uv = torch.from_numpy(mesh.uv).to(self.device)
        zero = torch.zeros_like(uv[:, :1])
        return torch.cat([uv * 2 - 1, zero, zero + 1], 1), torch.from_numpy(mesh.faces).to(self.device)

    def milliseconds(self, call: Callable[[], Any], *, runs: int = MAX_RUNS) -> dict[str, float | int]:
        """Median and spread by device events (CUDA) or the clock, after two unmeasured calls, the first one apart."""
        start = time.perf_counter()
        call()
        self.wait()
        first = time.perf_counter() - start
        call()
        self.wait()
        values: list[float] = []
        begun = time.perf_counter()
        while len(values) < runs and (len(values) < MIN_RUNS or time.perf_counter() - begun < SECONDS_PER_ROW):
            values.append(self._once(call))
        values.sort()
        return {
            "median_ms": round(statistics.median(values), 4),
            "lowest_ms": round(values[0], 4),
            "highest_ms": round(values[-1], 4),
            "runs": len(values),
            "first_call_ms": round(first * 1e3, 1),
        }

    def _once(self, call: Callable[[], Any]) -> float:
        if self.device.type != "cuda":
            start = time.perf_counter()
            call()
            self.wait()
            return (time.perf_counter() - start) * 1e3
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        call()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def copy_rate(bench: Bench) -> Row:
    """A device-to-device copy: the memory rate that the floors are taken from."""
    source = torch.randn(1 << 28 if bench.device.type == "cuda" else 1 << 22, device=bench.device)
    target = torch.empty_like(source)
    times = bench.milliseconds(lambda: target.copy_(source))
    return {**times, "gb_per_s": round(2 * source.nbytes / times["median_ms"] / 1e6, 1)}


def extract(bench: Bench) -> Row:
    """Iso-surface of a 385³ grid known near the surface only, beside the same code on the host."""
    times = bench.milliseconds(lambda: cubes.surface(bench.grid, 0.0), runs=20)
    points, faces = cubes.surface(bench.grid, 0.0)
    start = time.perf_counter()
    grid = bench.grid.cpu()
    moved = time.perf_counter() - start
    start = time.perf_counter()
    host_points, host_faces = cubes.surface(grid, 0.0)
    host = time.perf_counter() - start
    same = faces.shape == host_faces.shape and torch.equal(faces.cpu(), host_faces)
    apart = float((points.cpu() - host_points).abs().max()) if points.shape == host_points.shape else None
    peak = _peak_mb(bench, lambda: cubes.surface(bench.grid, 0.0))
    return {
        **times, "faces": len(faces), "vertices": len(points), "faces_equal_host": same, "largest_difference": apart,
        "grid_to_host_ms": round(moved * 1e3, 1), "same_code_on_host_ms": round(host * 1e3, 1), "peak_mb": peak,
    }  # fmt: skip


def extract_to_host(bench: Bench) -> Row:
    """The call that the decoder makes: extraction on the device, the mesh on the host."""
    from hy3dgen.shapegen.models.autoencoders.surface_extractors import marching_cubes

    return bench.milliseconds(lambda: marching_cubes(bench.grid, 0.0), runs=20)


def raster(bench: Bench, view: str, backend: str) -> Row:
    """One raster at 2048² by a back end of the device, its ids and barycentrics compared with numba's."""
    clip, faces = bench.front() if view == "front" else bench.page()
    draw = partial(rasterize, clip, faces, SIZE, backend=backend)
    times = bench.milliseconds(draw)
    found, expected = draw(), rasterize(clip.cpu(), faces.cpu(), SIZE, backend="numba")
    wrong = found.face_ids.cpu() != expected.face_ids
    apart = (found.barycentrics.cpu() - expected.barycentrics)[~wrong].abs()
    return {
        **times, "faces": len(faces), "covered": round(float(expected.covered.float().mean()), 4),
        "face_ids_unequal": int(wrong.sum()),
        "barycentrics_largest_difference": float(apart.max()),
        "peak_mb": _peak_mb(bench, draw),
    }  # fmt: skip


def raster_travel(bench: Bench) -> Row:
    """A 2048² raster to the host and back, which keeping it there between stages costs."""
    drawn = rasterize(*bench.front(), SIZE)

    def travel() -> Raster:
        kept = (drawn.face_ids.cpu(), drawn.barycentrics.cpu())
        return Raster(kept[0].to(bench.device), kept[1].to(bench.device))

    return bench.milliseconds(travel, runs=10)


def carry_values(bench: Bench) -> Row:
    """Three values a vertex carried to the pixels of a 2048² raster."""
    clip, faces = bench.front()
    drawn = rasterize(clip, faces, SIZE)
    return bench.milliseconds(lambda: interpolate(clip[:, :3].contiguous(), faces, drawn))


@dataclass
class Renderer:
    """What ``texgen.bake`` asks of a renderer, at the paint stage's settings."""

    mesh: RasterMesh
    device: torch.device
    default_resolution: tuple[int, int]
    texture_size: tuple[int, int]
    bake_angle_thres: float = 75.0
    bake_unreliable_kernel_size: int = 8

    def view(self, elevation_deg: float, azimuth_deg: float) -> View:
        return View(azimuth_deg, elevation_deg)


def paint_views(pictures: list[Any]) -> list[Any]:
    """The six pictures as the paint stage's networks would give them: RGB, 2048²."""
    return [picture.image.convert("RGB").resize(SIZE) for picture in pictures]


def paint_bake(mesh: Mesh, views: list[Any], device: torch.device) -> Any:
    """The paint stage's bake on a device: six views of 2048² drawn, splatted onto 2048² texels and merged."""
    from benchmarks import seams
    from hy3dgen.rendering.surface import prepare_mesh
    from hy3dgen.texgen.bake import Drawings, bake

    azimuths, elevations = zip(*seams.SIX_VIEWS)
    renderer: Any = Renderer(prepare_mesh(mesh, device=device), device, SIZE, SIZE)
    weights = (1, 0.1, 0.5, 0.1, 0.05, 0.05)
    return bake(Drawings(renderer), renderer, views, elevations, azimuths, weights, exponent=4)


def bake_paint(bench: Bench) -> Row:
    """``paint_bake`` on the device, its texture compared with the host's."""
    mesh, atlas = bench.bake_mesh
    run = partial(paint_bake, mesh, paint_views(bench.pictures))
    times = bench.milliseconds(lambda: run(bench.device), runs=10)
    host, there = (run(place) for place in (torch.device("cpu"), bench.device))
    both = host.painted[..., 0] & there.painted[..., 0].cpu()
    return {
        **times, "faces": len(mesh.faces), "atlas": atlas,
        "painted_unequal_share": float((host.painted != there.painted.cpu()).float().mean()),
        "mean_colour_difference_255": round(
            float((host.texture - there.texture.cpu())[both].abs().mean() * 255), 4),
        "peak_mb": _peak_mb(bench, lambda: run(bench.device)),
    }  # fmt: skip


def bake_project(bench: Bench) -> Row:
    """``--texture project`` with six pictures at 2048²: seconds of its stages, pictures fitted and texels filled."""
    from hy3dgen.runtime.stages import recording
    from hy3dgen.texgen.projection import project_pictures

    mesh, atlas = bench.bake_mesh
    stages: dict[str, list[float]] = {}
    results = {}
    for place, runs in ((bench.device, 4), (torch.device("cpu"), 2)):
        for turn in range(runs):
            with recording(device=place) as record:
                results[place.type] = project_pictures(mesh, bench.pictures, texture_size=SIZE[0], device=place).mesh
            if turn:  # the first call compiles
                for stage in record.stages:
                    stages.setdefault(f"{stage.name}_{place.type}_ms", []).append(stage.seconds * 1e3)
    here, there = (results[kind].texture for kind in (bench.device.type, "cpu"))
    assert here is not None and there is not None
    medians = {name: round(statistics.median(values), 1) for name, values in stages.items()}
    total = sum(value for name, value in medians.items() if name.endswith(f"_{bench.device.type}_ms"))
    difference = np.abs(here.astype(int) - there)
    return {
        "median_ms": round(total, 1), **medians, "faces": len(mesh.faces), "atlas": atlas,
        "mean_colour_difference_255": round(float(difference.mean()), 4),
        "texels_off_by_more_than_2": round(float((difference.max(-1) > 2).mean()), 6),
    }  # fmt: skip


def fill(bench: Bench) -> Row:
    """Holes of a 2048² texture, on the host, where this stage runs on every device."""
    from hy3dgen.baking.fill import pull_push

    clip, faces = bench.page()
    known = rasterize(clip, faces, SIZE).covered.cpu().numpy()
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8) * known[..., None]
    pull_push(picture, known)
    values = []
    for _ in range(5):
        start = time.perf_counter()
        pull_push(picture, known)
        values.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": round(statistics.median(values), 2), "filled_share": round(float(1 - known.mean()), 4)}


def _peak_mb(bench: Bench, call: Callable[[], Any]) -> float | None:
    """MiB allocated at the peak of a call beyond what was held before."""
    if bench.device.type != "cuda":
        return None
    bench.wait()
    torch.cuda.reset_peak_memory_stats(bench.device)
    held = torch.cuda.memory_allocated(bench.device)
    call()
    bench.wait()
    return round((torch.cuda.max_memory_allocated(bench.device) - held) / 2**20, 1)


ROWS: dict[str, Callable[[Bench], Row]] = {
    "copy": copy_rate,
    "extract 385³": extract,
    "extract 385³, mesh to the host": extract_to_host,
    "raster front, triton": partial(raster, view="front", backend="triton"),
    "raster front, torch": partial(raster, view="front", backend="torch"),
    "raster UV page, triton": partial(raster, view="page", backend="triton"),
    "raster UV page, torch": partial(raster, view="page", backend="torch"),
    "raster to the host and back": raster_travel,
    "carry three values": carry_values,
    "bake six views, paint stage": bake_paint,
    "bake six views, project": bake_project,
    "fill": fill,
}


def measured(bench: Bench, budget_s: float, done: Callable[[list[Row]], None]) -> None:
    """Every row in turn; ``done`` gets all rows so far after each."""
    begun, rows = time.perf_counter(), []
    for name, call in ROWS.items():
        row: Row = {"row": name}
        start = time.perf_counter()
        if start - begun > budget_s:
            row["error"] = f"left out: the budget of {budget_s:g} s was spent"
        else:
            try:
                row.update(call(bench))
            except Exception as error:  # noqa: BLE001 - a benchmark on a borrowed machine reports and goes on
                where = traceback.extract_tb(error.__traceback__)[-1]
                row["error"] = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        row["spent_s"] = round(time.perf_counter() - start, 2)
        print(json.dumps(row), flush=True)
        rows.append(row)
        done(rows)


def machine(device: torch.device) -> Row:
    """The device and what ran on it."""
    from importlib import util

    found: Row = {"device": str(device), "torch": torch.__version__, "rasteriser": automatic(device)}
    if device.type == "cuda":
        found |= {"name": torch.cuda.get_device_name(device), "capability": torch.cuda.get_device_capability(device)}
    if util.find_spec("triton"):
        import triton

        found["triton"] = triton.__version__
    return found


def section(path: Path) -> list[str]:
    """Markdown lines about the device, from ``EXPECTED`` and the measured rows where there are any."""
    result = json.loads(path.read_text()) if path.is_file() else {"machine": {}, "rows": []}
    about, rows = result["machine"], {row["row"]: row for row in result["rows"]}
    where = f"{about['name']}, torch {about['torch']}, triton {about.get('triton')}" if "name" in about else "not yet"
    rate = rows.get("copy", {}).get("gb_per_s", 3000)
    lines = [
        "## On a CUDA device",
        "",
        f"Made by `python -m benchmarks.geometry_gpu`. Measured: {where}. Medians by device events. The floor is the "
        f"bytes that a row cannot avoid at {rate:g} GB/s; floors and expectations were written before the measurement.",
        "",
        "| row | floor MB | floor ms | expected ms | measured ms | first call ms | what floor and expectation are |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for name in [*EXPECTED, *(name for name in rows if name not in EXPECTED)]:
        floor, expected, why = EXPECTED.get(name, (None, "", ""))
        row = rows.get(name, {})
        floor_ms = f"{floor / rate:.3f}" if floor else ""
        measured, first = row.get("error", row.get("median_ms", "")), row.get("first_call_ms", "")
        lines.append(f"| {name} | {floor or ''} | {floor_ms} | {expected} | {measured} | {first} | {why} |")
    shown = ("row", "median_ms", "lowest_ms", "highest_ms", "runs", "first_call_ms", "spent_s", "error")
    lines += ["", "| row | further figures |", "|---|---|"]
    for name, row in rows.items():
        figures = ", ".join(f"{key} {value}" for key, value in row.items() if key not in shown)
        lines.append(f"| {name} | {figures} |")
    return [*lines, ""] if rows else [*lines[:-3], ""]


def main(argv: list[str] | None = None) -> int:
    """Run the rows; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.geometry_gpu", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda", help="'cpu' only tries the script")
    parser.add_argument("--budget-s", type=float, default=65.0, help="no row starts later than this")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    device = pick_device(options.device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    about = machine(device)
    print(json.dumps(about), flush=True)

    def keep(rows: list[Row]) -> None:
        options.output.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")

    measured(Bench(device), options.budget_s, keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
