"""The CPU geometry stages beside the libraries that the reference uses, on the same input in one process.

    python -m benchmarks.geometry [--sizes 10000 100000 1000000] [--repeat 5] [--meshes FILE ...]
    python -m benchmarks.geometry --table        # docs/geometry.md again from the committed JSON

A library that is not installed leaves its columns empty; to have all: pip install pymeshlab xatlas.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import geometry_gpu, seams, surfaces
from hy3dgen.baking import fill, inpaint
from hy3dgen.meshes import topology
from hy3dgen.meshes.cleanup import clean, remove_small_parts
from hy3dgen.meshes.decimate import reduce_faces
from hy3dgen.meshes.io import encode_mesh, read_mesh, to_trimesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.normals import corner_angles
from hy3dgen.meshes.unwrap import unwrap, uv_metrics
from hy3dgen.rendering.rasterizers import rasterize
from hy3dgen.runtime.stages import recording
from hy3dgen.shapegen.models.autoencoders.surface_extractors import marching_cubes

ROOT = Path(__file__).resolve().parent.parent
TARGET_FACES = 40_000
TEXTURE_PX = 2048
# A side that takes longer than this is run once: its noise is small beside it.
ONCE_ABOVE_S = 4.0
# Faces of the figurine by grid resolution, measured: 2.77 resolution².
FACES_PER_CELL = 2.77
# From here on the iso-surface of a grid is not timed: it grows evenly, and the copies of the grid need many gigabytes.
_HEAVY = 1_200_000
# Meshes of fewer faces tell little about seams.
_BAKED_FROM = 8_000

_TABLES = (
    ("reduce", "Reduction"),
    ("unwrap", "UV maps"),
    ("bake", "The same six views baked under both UV maps, seen from between them"),
)

Row = dict[str, Any]


def optional(name: str) -> Any:
    """The module, or None when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@dataclass(frozen=True)
class Times:
    """Medians over the runs of both sides: seconds on the clock and on the processors; None without a reference."""

    ours_s: float
    ours_cpu_s: float
    reference_s: float | None
    reference_cpu_s: float | None


def timed(ours: Callable[[], Any], reference: Callable[[], Any] | None, repeat: int) -> tuple[Times, Any, Any]:
    """Times and last results of both, run in turns after one unmeasured call of ours (compilation)."""
    results: list[Any] = [ours(), None]
    seconds: list[list[float]] = [[], []]
    busy: list[list[float]] = [[], []]
    for _ in range(repeat):
        for side, call in enumerate((ours, reference)):
            if call is None or (seconds[side] and seconds[side][0] > ONCE_ABOVE_S):
                continue
            start, start_busy = time.perf_counter(), time.process_time()
            results[side] = call()
            seconds[side].append(time.perf_counter() - start)
            busy[side].append(time.process_time() - start_busy)
    middle = [statistics.median(values) if values else None for values in (*seconds, *busy)]
    assert middle[0] is not None and middle[2] is not None
    return Times(middle[0], middle[2], middle[1], middle[3]), results[0], results[1]


def row(stage: str, given: str, faces: int, ours: str, reference: str | None, times: Times, quality: Row) -> Row:
    """One row of the result; ratio is ours by reference, under 1 is faster."""
    ours_s, reference_s = times.ours_s, times.reference_s
    print(f"{stage:9} {given:16} {faces:>8} {ours_s:8.3f} s  {reference or '-'}: {reference_s}", flush=True)
    return {
        "stage": stage,
        "input": given,
        "faces": faces,
        "ours": ours,
        "ours_s": round(ours_s, 4),
        "reference": reference if reference_s is not None else None,
        "reference_s": None if reference_s is None else round(reference_s, 4),
        "ratio": None if reference_s is None else round(ours_s / reference_s, 4),
        "ours_cpu_s": round(times.ours_cpu_s, 4),
        "reference_cpu_s": None if times.reference_cpu_s is None else round(times.reference_cpu_s, 4),
        "quality": quality,
    }


def bench_extract(given: str, grid: np.ndarray, repeat: int) -> list[Row]:
    """Iso-surface of a grid that is known only near the surface (NaN elsewhere), as hierarchical decoding leaves it."""
    from skimage.measure import marching_cubes as skimage_mc

    band = np.where(np.abs(grid) < 3 * 2 * 1.01 / (len(grid) - 1), grid, np.float32(np.nan))
    tensor = torch.from_numpy(band)
    times, mine, theirs = timed(
        lambda: marching_cubes(tensor, 0.0), lambda: skimage_mc(band, 0.0, method="lewiner"), repeat
    )
    found = mine or (np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    full = skimage_mc(grid, 0.0, method="lewiner")
    quality = {
        "faces_correct": len(full[1]),
        "faces_ours": len(found[1]),
        "faces_reference": len(theirs[1]),
        "nonfinite_vertices_ours": int((~np.isfinite(found[0])).any(1).sum()),
        "nonfinite_vertices_reference": int((~np.isfinite(theirs[0])).any(1).sum()),
    }
    return [row("extract", given, len(full[1]), "hy3dgen (skimage + NaN filter)", "scikit-image", times, quality)]


def bench_clean(given: str, mesh: Mesh, repeat: int, *, alone: bool = False) -> list[Row]:
    """Floaters by the reference's rule, beside pymeshlab through files (as the reference does) and in memory."""
    pymeshlab: Any = None if alone else optional("pymeshlab")

    def through_files() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            flat = to_trimesh(mesh)
            flat.export(f"{folder}/in.ply")
            meshes = pymeshlab.MeshSet()
            meshes.load_new_mesh(f"{folder}/in.ply")
            _pymeshlab_floaters(meshes)
            meshes.save_current_mesh(f"{folder}/out.ply")
            return importlib.import_module("trimesh").load(f"{folder}/out.ply")

    def in_memory() -> Any:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(mesh.vertices.astype(np.float64), mesh.faces))
        _pymeshlab_floaters(meshes)
        current = meshes.current_mesh()
        return current.vertex_matrix(), current.face_matrix()

    rows = []
    for name, call in (("pymeshlab, through files", through_files), ("pymeshlab, in memory", in_memory)):
        times, mine, theirs = timed(lambda: remove_small_parts(mesh), call if pymeshlab else None, repeat)
        count = None if theirs is None else len(theirs[1] if isinstance(theirs, tuple) else theirs.faces)
        quality = {"faces_ours": len(mine.faces), "faces_reference": count}
        rows.append(row("floaters", given, len(mesh.faces), "remove_small_parts", name, times, quality))
    times, mine, theirs = timed(lambda: clean(mesh), None, repeat)
    after, report = mine
    quality = {"faces_ours": len(after.faces), "parts_removed": report.parts_removed, "watertight": report.watertight}
    return [*rows, row("clean", given, len(mesh.faces), "clean", None, times, quality)]


def _pymeshlab_floaters(meshes: Any) -> None:
    meshes.compute_selection_by_small_disconnected_components_per_face(nbfaceratio=0.005)
    meshes.compute_selection_transfer_face_to_vertex(inclusive=False)
    meshes.meshing_remove_selected_vertices_and_faces()


def reduction_quality(mesh: Mesh, truth: Mesh | None) -> Row:
    """Distance to the mesh before (1e-4 of its diagonal) where one is given, and how sound the result is."""
    smallest = corner_angles(mesh.vertices.astype(np.float64)[mesh.faces]).min(1)
    return {
        "faces": len(mesh.faces),
        **({} if truth is None else surfaces.compare(mesh, truth)),
        "non_manifold_edges": len(topology.non_manifold_edges(mesh.faces)),
        "open_edges": len(topology.boundary_edges(mesh.faces)),
        "slivers_share": round(float((smallest < np.radians(5)).mean()), 4),
    }


def bench_reduce(given: str, mesh: Mesh, target: int, repeat: int, *, alone: bool = False) -> tuple[list[Row], Mesh]:
    """Reduction beside pymeshlab with the reference's settings, every option passed."""
    pymeshlab: Any = None if alone else optional("pymeshlab")

    def with_pymeshlab() -> Mesh:
        meshes = pymeshlab.MeshSet()
        meshes.add_mesh(pymeshlab.Mesh(mesh.vertices.astype(np.float64), mesh.faces))
        meshes.meshing_decimation_quadric_edge_collapse(
            targetfacenum=target, targetperc=0.0, qualitythr=1.0, preserveboundary=True, boundaryweight=3.0,
            preservenormal=True, preservetopology=True, optimalplacement=True, planarquadric=False, planarweight=0.001,
            qualityweight=False, autoclean=True, selected=False,
        )  # fmt: skip
        current = meshes.current_mesh()
        return Mesh(current.vertex_matrix().astype(np.float32), current.face_matrix().astype(np.int32))

    times, mine, theirs = timed(lambda: reduce_faces(mesh, target), with_pymeshlab if pymeshlab else None, repeat)
    quality = {"target": target, "ours": reduction_quality(mine, None if alone else mesh)}
    if theirs is not None:
        quality["reference"] = reduction_quality(theirs, mesh)
    return [row("reduce", given, len(mesh.faces), "reduce_faces", "pymeshlab", times, quality)], mine


def bench_unwrap(given: str, mesh: Mesh, repeat: int, *, alone: bool = False) -> tuple[list[Row], Mesh, Mesh | None]:
    """UV map beside xatlas with its defaults, as the reference calls it. Returns rows, our mesh and xatlas's."""
    xatlas: Any = None if alone else optional("xatlas")

    def with_xatlas() -> Mesh:
        source, faces, uv = xatlas.parametrize(mesh.vertices, mesh.faces)
        return Mesh(mesh.vertices[source], faces.astype(np.int32), uv=uv)

    times, mine, theirs = timed(lambda: unwrap(mesh, size_px=TEXTURE_PX), with_xatlas if xatlas else None, repeat)
    quality = {"ours": _uv_quality(mine, mesh)}
    if theirs is not None:
        quality["reference"] = _uv_quality(theirs, mesh)
    return [row("unwrap", given, len(mesh.faces), "unwrap (checked)", "xatlas", times, quality)], mine, theirs


def _uv_quality(mesh: Mesh, before: Mesh) -> Row:
    found = uv_metrics(mesh, TEXTURE_PX)
    return {
        "coverage": round(found.coverage, 4),
        "overlap": round(found.overlap, 6),
        "charts": found.charts,
        "stretch": round(found.stretch, 4),
        "mirrored": found.mirrored,
        "vertices_factor": round(len(mesh.vertices) / len(before.vertices), 3),
    }


def bench_raster(given: str, mesh: Mesh, repeat: int) -> list[Row]:
    """Face ids of a front view and of the UV page, by the fast CPU back end beside the plain torch one."""
    assert mesh.uv is not None
    faces = torch.from_numpy(mesh.faces)
    one = np.ones((len(mesh.vertices), 1), np.float32)
    views = {
        "front": np.concatenate([mesh.vertices[:, :2] * [1, -1], -mesh.vertices[:, 2:] * 0.5, one], 1),
        "uv": np.concatenate([mesh.uv * 2 - 1, 0 * one, one], 1),
    }
    rows = []
    for name, points in views.items():
        clip = torch.from_numpy(points.astype(np.float32))
        size = (TEXTURE_PX, TEXTURE_PX)
        times, mine, theirs = timed(
            partial(rasterize, clip, faces, size, backend="numba"),
            partial(rasterize, clip, faces, size, backend="torch"),
            min(repeat, 3),
        )
        wrong = float((mine.face_ids != theirs.face_ids).float().mean())
        covered = float((mine.face_ids > 0).float().mean())
        quality = {"view": name, "covered": round(covered, 4), "face_ids_unequal_share": wrong}
        rows.append(
            row("raster", given, len(faces), f"numba, {name}", "hy3dgen's plain torch back end", times, quality)
        )
    return rows


def bench_bake(given: str, mesh: Mesh, other: Mesh | None, repeat: int) -> list[Row]:
    """Six pictures onto our UV map and onto xatlas's, and how both look from between them."""
    pictures = seams.six_pictures(mesh)
    times, mine, theirs = timed(
        lambda: seams.baked(mesh, pictures, TEXTURE_PX),
        None if other is None else lambda: seams.baked(other, pictures, TEXTURE_PX),
        min(repeat, 3),
    )
    quality = {"ours": seams.judged(mine)}
    if theirs is not None:
        quality["reference"] = seams.judged(theirs)
    name = "the same on xatlas's map"
    return [row("bake", given, len(mesh.faces), "six views, map of uvunwrap", name, times, quality)]


def bench_bake_stages(given: str, mesh: Mesh, repeat: int) -> list[Row]:
    """Six views by both ways of baking: seconds of the stages of ``--texture project``, and the paint stage's bake."""
    pictures = seams.six_pictures(mesh)
    place, laps = torch.device("cpu"), []

    def project() -> None:
        with recording(device=place) as record:
            seams.baked(mesh, pictures, TEXTURE_PX)
        laps.append({stage.name: stage.seconds for stage in record.stages})

    times, _, _ = timed(project, None, min(repeat, 3))
    stages = {f"{name}_s": round(statistics.median(lap[name] for lap in laps[1:]), 3) for name in laps[0]}
    bake = partial(geometry_gpu.paint_bake, mesh, geometry_gpu.paint_views(pictures), place)
    paint, _, _ = timed(bake, None, min(repeat, 3))
    faces = len(mesh.faces)
    return [
        row("project", given, faces, "six pictures, all stages", None, times, stages),
        row("paint bake", given, faces, "six views of 2048² drawn, splatted, merged", None, paint, {"views": 6}),
    ]


def bench_chain(resolution: int, repeat: int) -> list[Row]:
    """From a grid of values to a written GLB with a baked texture: all stages in a row, ours only."""
    grid = -surfaces.figurine_grid(resolution)
    tensor = torch.from_numpy(grid)
    seconds: dict[str, list[float]] = {}
    pictures: list[Any] = []

    def run() -> Mesh:
        clock = [time.perf_counter()]

        def lap(name: str, result: Any) -> Any:
            clock.append(time.perf_counter())
            seconds.setdefault(name, []).append(clock[-1] - clock[-2])
            return result

        found = lap("extract", marching_cubes(tensor, 0.0))
        assert found is not None
        points = (found[0] * (2 / resolution) - 1).astype(np.float32)
        mesh = lap("clean", clean(Mesh(points, np.ascontiguousarray(found[1][:, ::-1])))[0])
        mesh = lap("reduce", reduce_faces(mesh, TARGET_FACES))
        mesh = lap("unwrap", unwrap(mesh, size_px=TEXTURE_PX))
        if not pictures:
            pictures.extend(seams.six_pictures(mesh))
            clock.append(time.perf_counter())
        mesh = lap("bake", seams.baked(mesh, pictures, TEXTURE_PX))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "a.glb").write_bytes(encode_mesh(mesh, "a.glb")["a.glb"])
        return lap("write", mesh)

    times, mine, _ = timed(run, None, repeat)
    quality = {name: round(statistics.median(values[1:] or values), 3) for name, values in seconds.items()}
    faces = round(FACES_PER_CELL * resolution**2)
    return [row("chain", f"{resolution + 1}³ grid", faces, "grid to GLB, 2048² texture", None, times,
                {"faces_out": len(mine.faces), **{f"{name}_s": value for name, value in quality.items()}})]  # fmt: skip


def bench_fill(given: str, mesh: Mesh, repeat: int) -> list[Row]:
    """Holes of a UV texture: our pyramid beside OpenCV's Navier-Stokes, which the reference uses."""
    from skimage import data

    photo = np.tile(data.astronaut(), (4, 4, 1))[:TEXTURE_PX, :TEXTURE_PX].astype(np.float32) / 255
    assert mesh.uv is not None
    line = torch.from_numpy(np.concatenate([mesh.uv * 2 - 1, np.zeros_like(mesh.uv)], 1).astype(np.float32))
    line[:, 3] = 1
    page = rasterize(line, torch.from_numpy(mesh.faces), (TEXTURE_PX, TEXTURE_PX)).face_ids.numpy() > 0
    blobs = np.random.default_rng(3).random((128, 128)) < 0.06
    holes = page & np.kron(blobs, np.ones((TEXTURE_PX // 128, TEXTURE_PX // 128), bool))
    known = page & ~holes
    given_photo = photo * known[..., None]
    given_bytes = (given_photo * 255).round().astype(np.uint8)
    times, mine, theirs = timed(
        lambda: fill.pull_push(given_bytes, known),
        lambda: inpaint.fill_picture(given_photo, known.astype(np.uint8) * 255),
        min(repeat, 3),
    )
    quality = {
        "filled_share": round(float(1 - known.mean()), 4),
        "psnr_ours_db": _psnr(mine.astype(np.float32) / 255, photo, holes),
        "psnr_reference_db": _psnr(theirs.astype(np.float32) / 255, photo, holes),
    }
    return [row("fill", given, len(mesh.faces), "fill.pull_push", "OpenCV Navier-Stokes, radius 3", times, quality)]


def _psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return round(float(-10 * np.log10(np.square(picture[where] - truth[where]).mean())), 2)


def bench_export(given: str, mesh: Mesh, repeat: int) -> list[Row]:
    """GLB with a 2048² texture beside trimesh's exporter."""
    noise = np.random.default_rng(0).integers(0, 256, (TEXTURE_PX // 16, TEXTURE_PX // 16, 3), np.uint8)
    textured = mesh.with_(texture=np.kron(noise, np.ones((16, 16, 1), np.uint8)))
    flat = to_trimesh(textured)
    times, mine, theirs = timed(
        lambda: encode_mesh(textured, "a.glb", origin="keep")["a.glb"], lambda: flat.export(file_type="glb"), repeat
    )
    quality = {"bytes_ours": len(mine), "bytes_reference": len(theirs)}
    return [row("export", given, len(mesh.faces), "encode_mesh .glb", "trimesh", times, quality)]


def bench_mesh(given: str, mesh: Mesh, repeat: int, *, texels: bool, alone: bool = False) -> list[Row]:
    """All stages from a mesh on; those on texels, which depend little on the mesh, only when asked.

    alone: without the reference's libraries, which would take hours
    """
    rows = bench_clean(given, mesh, repeat, alone=alone)
    cleaned, _ = clean(mesh)
    target = min(TARGET_FACES, len(cleaned.faces) // 4)
    reduced_rows, reduced = bench_reduce(given, cleaned, target, repeat, alone=alone)
    unwrap_rows, unwrapped, by_xatlas = bench_unwrap(given, reduced, repeat, alone=alone)
    rows += reduced_rows + unwrap_rows
    if by_xatlas is not None and len(reduced.faces) >= _BAKED_FROM:
        rows += bench_bake(given, unwrapped, by_xatlas, repeat)
    if texels:
        rows += bench_bake_stages(given, unwrapped, repeat)
        rows += bench_raster(given, unwrapped, repeat)
        rows += bench_fill(given, unwrapped, repeat)
        rows += bench_export(given, unwrapped, repeat)
    return rows


def sample_meshes() -> list[Path]:
    """Two meshes that pymeshlab brings along: a closed scan and a model of open parts; none without pymeshlab."""
    pymeshlab = optional("pymeshlab")
    if pymeshlab is None:
        return []
    folder = Path(pymeshlab.__file__).parent / "tests" / "sample_meshes"
    return [path for name in ("bunny.obj", "airplane.obj") if (path := folder / name).is_file()]


def machine(note: str) -> Row:
    """Where and with what the figures were taken."""
    model = platform.processor()
    if (info := Path("/proc/cpuinfo")).is_file():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    packages = ("numpy", "scipy", "torch", "numba", "trimesh", "scikit-image", "opencv-python-headless",
                "fast-simplification", "uvunwrap", "xatlas", "pymeshlab")  # fmt: skip
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in packages if (found := _version(name))},
        "note": note,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(result: Row) -> str:
    """docs/geometry.md from the JSON."""
    where = result["machine"]
    lines = [
        "# Geometry stages, measured",
        "",
        "Made by `python -m benchmarks.geometry`; do not edit. Seconds are medians; ratio is ours by reference, "
        "on the clock and in processor time, which other work on the machine disturbs less.",
        "",
        f"Machine: {where['cpu']}, {where['cores']} cores, {where['system']}, Python {where['python']}. "
        f"{where['note']}",
        "",
        "| stage | input | faces | ours | s | reference | s | ratio | CPU ratio |",
        "|---|---|--:|---|--:|---|--:|--:|--:|",
    ]
    for r in result["rows"]:
        seconds = "" if r["reference_s"] is None else f"{r['reference_s']:.3f}"
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.2f}"
        busy = f"{r['ours_cpu_s'] / r['reference_cpu_s']:.2f}" if r["reference_cpu_s"] else ""
        lines.append(
            f"| {r['stage']} | {r['input']} | {r['faces']} | {r['ours']} | {r['ours_s']:.3f} "
            f"| {r['reference'] or ''} | {seconds} | {ratio} | {busy} |"
        )
    for stage, title in _TABLES:
        lines += ["", f"## {title}", "", *_quality_table([r for r in result["rows"] if r["stage"] == stage])]
    lines += ["", "Distances in 1e-4 of the box diagonal, two-sided; slivers are faces with an angle under 5°.", ""]
    others = [r for r in result["rows"] if r["stage"] not in dict(_TABLES)]
    lines += ["## Other stages", "", "| stage | input | figures |", "|---|---|---|"]
    for r in others:
        figures = ", ".join(f"{key} {value}" for key, value in r["quality"].items())
        lines.append(f"| {r['stage']} | {r['input']}, {r['faces']} faces | {figures} |")
    lines += ["", *geometry_gpu.section(geometry_gpu.RESULTS)]
    return "\n".join(lines)


def _quality_table(rows: list[Row]) -> list[str]:
    if not rows:
        return ["No rows."]
    columns = list(rows[0]["quality"]["ours"])
    lines = ["| input | by | " + " | ".join(c.replace("_", " ") for c in columns) + " |"]
    lines.append("|---|---|" + "--:|" * len(columns))
    for r in rows:
        for side, label in (("ours", r["ours"]), ("reference", r["reference"])):
            if side in r["quality"]:
                values = " | ".join(str(r["quality"][side].get(c, "")) for c in columns)
                lines.append(f"| {r['input']}, {r['faces']} | {label} | {values} |")
    return lines


def _resolution(faces: int) -> int:
    """Cells along a side of the grid whose figurine has about so many faces."""
    return max(round((faces / FACES_PER_CELL) ** 0.5), 24)


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """The rows of one input after the other."""
    compared = [size for size in options.sizes if size <= options.alone_above]
    for size in options.sizes:
        if size > options.alone_above:  # a grid for so many faces would not fit
            quarter = surfaces.mesh_of_grid(surfaces.figurine_grid(_resolution(size // 4)))
            yield bench_mesh("figurine, split", surfaces.split_faces(quarter), 1, texels=False, alone=True)
            continue
        grid = surfaces.figurine_grid(_resolution(size))
        rows = bench_extract("figurine", grid, options.repeat) if size < _HEAVY else []
        mesh = surfaces.mesh_of_grid(grid)
        del grid
        yield rows + bench_mesh("figurine", mesh, options.repeat, texels=size == max(compared))
        del mesh
    if options.chain:
        yield bench_chain(options.chain, options.repeat)
    for path in [*options.meshes, *([] if options.no_samples else sample_meshes())]:
        yield bench_mesh(path.stem, read_mesh(path), options.repeat, texels=False)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.geometry", description=__doc__.split("\n", 1)[0])
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[10_000, 100_000, 300_000, 1_000_000, 1_300_000, 5_000_000],
        help="faces of the figurine",
    )
    parser.add_argument("--alone-above", type=int, default=2_000_000, help="larger figurines: without references")
    parser.add_argument("--chain", type=int, default=384, help="cells of the grid for the whole chain; 0 for none")
    parser.add_argument("--meshes", type=Path, nargs="*", default=[], help="more meshes, e.g. what color.py made")
    parser.add_argument("--no-samples", action="store_true", help="leave out pymeshlab's sample meshes")
    parser.add_argument("--repeat", type=int, default=5, help="runs a figure (those over 4 s run once)")
    parser.add_argument("--note", default="Nothing else ran.", help="kept in the machine's description")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/geometry.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/geometry.md", help="table made from the JSON")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args(argv)
    if not options.table:
        rows: list[Row] = []
        options.output.parent.mkdir(parents=True, exist_ok=True)
        for found in measure(options):
            rows += found
            result = {"machine": machine(options.note), "rows": rows}  # after each input, so that a stop loses little
            options.output.write_text(json.dumps(result, indent=1) + "\n")
    options.docs.parent.mkdir(parents=True, exist_ok=True)
    options.docs.write_text(table(json.loads(options.output.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
