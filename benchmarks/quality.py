"""How good the embedded model's shapes and colours are: `python -m benchmarks.quality`.

Five parts, each a list of independent records, so that a run can stop and go on:
procedural  the fixed set of ``benchmarks.shapes``; the decoded field on a 64-cell lattice against the known field
outside     real meshes from installed packages (``benchmarks.outside``), the same measures; the mesh's inside by its
            winding number
pictures    cut-out pictures through ``hy3dgen.generate``: silhouette of the mesh against the picture's alpha (best of
            five elevations, shifts and even scales), share of floating pieces, and the colour error
            of the texture seen from the front
texture     colours of the whole surface of procedural shapes against the true ones (``benchmarks.texture``): painted,
            and projected with symmetry and filling
levers      the procedural subset again with each lossy lever, on the same noise

Volume IoU counts lattice points inside; chamfer is half the sum of both mean distances between 4096 points of each
surface, in units of the model's frame (longest side 1.9). Seeds are fixed; one process, one thread pool.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import scoring
from benchmarks.outside import outside_meshes
from benchmarks.quality_table import write_page
from benchmarks.shapes import CATEGORIES, SHAPES_PER_CATEGORY, shape
from hy3dgen.weights.catalogue import entry as catalogue_entry

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("procedural", "outside", "pictures", "texture", "levers")
LEVERS = ("flashvdm", "bf16")
ELEVATIONS_DEG = (0.0, 6.0, 12.0, 18.0, 24.0)
FOV_DEG = 30.0
FLOATING_LEAST = 1e-3  # of the area
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Record = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What is measured with; part of every record's key, so that a resumed run never mixes settings."""

    steps: int
    guidance: float
    octree_resolution: int
    seed: int = 0


class Records:
    """Finished records on disk, one JSON line each, by part, name and settings."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, asdict(settings)
        self._done: dict[tuple[str, str], Record] = {}
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            if entry["settings"] == self._settings:
                self._done[entry["part"], entry["name"]] = entry["record"]

    def get(self, part: str, name: str, make: Callable[[], Record]) -> Record:
        """The stored record, else a new one, which is stored."""
        if (part, name) not in self._done:
            started = time.perf_counter()
            record = make() | {"seconds": round(time.perf_counter() - started, 2)}
            self._done[part, name] = record
            entry = {"part": part, "name": name, "settings": self._settings, "record": record}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(f"{part:11s} {name:28s} " + " ".join(f"{k} {v:.3f}" for k, v in record.items() if _number(v)))
        return self._done[part, name]


class ShapeModel:
    """Picture -> the model's field on the lattice, through the public pipeline."""

    def __init__(self, settings: Settings, *, dtype: torch.dtype = torch.float32) -> None:
        from hy3dgen.shapegen.models.autoencoders.volume_decoders import (
            FlashVDMVolumeDecoding,
            HierarchicalVolumeDecoding,
        )
        from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline

        self._settings = settings
        self._pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained("nano", device="cpu", dtype=dtype)
        self._decoders: dict[str, Any] = {
            "lean": HierarchicalVolumeDecoding("lean"),
            "flashvdm": FlashVDMVolumeDecoding(),
        }

    @torch.inference_mode()
    def field(self, picture: Image.Image, *, decoder: str = "lean") -> np.ndarray:
        """(n, n, n) float32 on the lattice, positive inside; 1 or -1 where the decoder saw that no surface is near."""
        vae = self._pipeline.vae
        latents = self._pipeline(
            picture,
            num_inference_steps=self._settings.steps,
            guidance_scale=self._settings.guidance,
            seed=self._settings.seed,
            output_type="latent",
        )
        features = vae(latents.to(self._pipeline.dtype) / vae.scale_factor)
        grid = self._decoders[decoder](
            features,
            vae.geo_decoder,
            bounds=scoring.BOUND,
            num_chunks=20000,
            octree_resolution=scoring.CELLS,
            enable_pbar=False,
        )
        return scoring.with_signs(grid[0].float().numpy())


def procedural_record(model: ShapeModel, category: str, index: int, decoder: str = "lean") -> Record:
    solid = shape(category, index)
    field = model.field(solid.render(scoring.PICTURE_PX), decoder=decoder)
    inside = solid.field(scoring.lattice(field.shape[0] - 1)) > 0  # FlashVDM gives one cell less
    return scoring.field_scores(field, inside, solid.surface(scoring.SURFACE_POINTS)[:, :3])


def outside_records(records: Records, model: Callable[[], ShapeModel]) -> Iterator[Record]:
    for item in outside_meshes():

        def make(item: Any = item) -> Record:
            mesh = item.mesh
            inside = scoring.inside_mesh(mesh.vertices, mesh.faces, scoring.CELLS)
            rng = np.random.default_rng(1)
            surface = scoring.sample_surface(mesh.vertices, mesh.faces, scoring.SURFACE_POINTS, rng)
            scores = scoring.field_scores(model().field(item.picture), inside, surface)
            return scores | {"package": item.package, "version": item.version, "file": item.file}

        yield {"name": item.name} | records.get("outside", item.name, make)


def picture_record(path: Path, settings: Settings) -> Record:
    """One picture through the whole job: shape and projected texture.

    Projected whatever paint weights there are: the figure is how well the picture itself was carried over.
    """
    import hy3dgen

    result = hy3dgen.generate(
        path,
        model="nano",
        texture="project",
        steps=settings.steps,
        guidance=settings.guidance,
        octree_resolution=settings.octree_resolution,
        seed=settings.seed,
        texture_size=1024,
        offline=True,
        preview=False,
        device="cpu",
    )
    cutout = np.asarray(result.cutouts["front"].convert("RGBA"))
    return {
        "silhouette_iou": best_silhouette_iou(result.mesh, cutout[..., 3] > 127),
        "floating_share": scoring.floating_share(result.mesh.vertices, result.mesh.faces),
        "colour_error": front_colour_error(result.mesh, cutout, elevation_deg=elevation_of(result.report)),
        "faces": len(result.mesh.faces),
    }


def best_silhouette_iou(mesh: Any, alpha: np.ndarray) -> float:
    """Overlap of picture and mesh, best of the elevations a picture may have been taken from."""
    from hy3dgen.rendering.cameras import View
    from hy3dgen.rendering.preview import render_silhouette

    distance = 0.75 / np.tan(np.radians(FOV_DEG / 2))
    views = [View(0.0, elevation, distance=float(distance), fovy_deg=FOV_DEG) for elevation in ELEVATIONS_DEG]
    return max(scoring.silhouette_iou(render_silhouette(mesh, view, (320, 320)), alpha) for view in views)


def elevation_of(report: Mapping[str, Any]) -> float:
    """From how high the texture stage took the front picture, degrees."""
    figures = [stage["figures"].get("elevation_0") for stage in report["stages"] if stage["name"] == "maps"]
    return next((float(found["degrees"]) for found in figures if found), 0.0)


def front_colour_error(mesh: Any, cutout: np.ndarray, size_px: int = 512, *, elevation_deg: float = 0.0) -> float:
    """Mean absolute difference (sRGB, 0 to 1) between the unlit front view and the picture laid over it.

    cutout: (h, w, 4) uint8; elevation_deg: where the picture was taken from. The picture is aligned to the view as the
    texture stage does; two pixels of both outlines are left out.
    """
    import cv2

    from hy3dgen.baking.align import fit
    from hy3dgen.rendering.cameras import View
    from hy3dgen.rendering.preview import render_picture, render_silhouette

    view = View(0.0, elevation_deg)
    seen = render_silhouette(mesh, view, (size_px, size_px))
    matrix, _ = fit(cutout[..., 3], seen)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(cutout, matrix, (size_px, size_px), flags=flags)
    shared = (seen & (laid[..., 3] > 250)).astype(np.uint8)
    both = cv2.erode(shared, np.ones((5, 5), np.uint8)) > 0
    if not both.any():
        return 1.0
    drawn = render_picture(mesh, view, size_px=size_px, lit=False).astype(np.float64)
    return float(np.abs(drawn[both] - laid[..., :3][both]).mean() / 255)


def run(options: argparse.Namespace, settings: Settings) -> Record:
    """Everything that was asked for, as the published JSON."""
    records = Records(options.partial, settings)
    loaded: dict[str, ShapeModel] = {}

    def model(dtype: torch.dtype = torch.float32) -> ShapeModel:
        name = str(dtype)
        if name not in loaded:
            loaded[name] = ShapeModel(settings, dtype=dtype)
        return loaded[name]

    result: Record = {
        "machine": machine(),
        "weights": weights(),
        "settings": asdict(settings) | {"cells": scoring.CELLS},
    }
    if "procedural" in options.only:
        result["procedural"] = _procedural(records, model, options.per_category)
    if "outside" in options.only:
        found = list(outside_records(records, model))
        result["outside"] = _means(found, ("iou", "chamfer")) | {"count": len(found), "meshes": found}
    if "pictures" in options.only:
        found = _pictures(records, options, settings)
        result["pictures"] = _means(found, ("silhouette_iou", "floating_share")) | {
            "floating_pictures": floating_pictures(found),
            "count": len(found),
            "pictures": found,
        }
        result["texture"] = {"front_colour_error": _means(found, ("colour_error",))["colour_error"], "size_px": 1024}
    if "texture" in options.only:
        result["texture"] = result.get("texture", {}) | _texture(records, options)
    if "levers" in options.only:
        result["levers"] = _levers(records, model, options.lever_shapes)
    return result


def _lazily(model: Callable[[], ShapeModel], category: str, index: int) -> Record:
    """The model is loaded only when a record is missing."""
    return procedural_record(model(), category, index)


def _procedural(records: Records, model: Callable[[], ShapeModel], per_category: int) -> Record:
    found: dict[str, list[Record]] = {name: [] for name in CATEGORIES}
    for index in range(per_category):  # all categories early, so that a stopped run is a fair sample
        for name in CATEGORIES:
            make = partial(_lazily, model, name, index)
            found[name].append(records.get("procedural", f"{name}-{index}", make))
    everything = [record for records_ in found.values() for record in records_]
    return _means(everything, ("iou", "chamfer")) | {
        "iou_median": round(float(np.median([record["iou"] for record in everything])), 4),
        "count": len(everything),
        "categories": {name: _means(items, ("iou", "chamfer")) for name, items in found.items()},
    }


def _pictures(records: Records, options: argparse.Namespace, settings: Settings) -> list[Record]:
    folder: Path = options.pictures
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    found = []
    for path in paths[: options.max_pictures]:
        name = path.relative_to(folder).with_suffix("").as_posix()
        key = f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        found.append({"name": name} | records.get("pictures", key, partial(picture_record, path, settings)))
    return found


def _texture(records: Records, options: argparse.Namespace) -> Record:
    """Figures of ``benchmarks.texture``; the records' names hold which paint weights they were made with."""
    from benchmarks import texture

    model = str(options.paint) if options.paint else None
    which = paint_sha256(options.paint)
    found = {}
    for name, index in texture.names(options.texture_shapes):

        def make(name: str = name, index: int = index) -> Record:
            return texture.texture_record(shape(name, index), model)

        found[f"{name}-{index}"] = records.get("texture", f"{name}-{index} {which[:12]}", make)
    return texture.summary(found) | {"paint_sha256": which}


def paint_sha256(folder: Path | None) -> str:
    """A hash of the paint model's weights; 'none' where there is no such model."""
    from hy3dgen.texgen.files import PAINT_FILES
    from hy3dgen.weights.catalogue import BUILT_IN_PAINT
    from hy3dgen.weights.locate import find_folder

    home = find_folder(folder or BUILT_IN_PAINT, "hunyuan3d-paint-v2-0", PAINT_FILES)
    if home is None:
        return "none"
    data = b"".join(path.read_bytes() for path in sorted(home.rglob("*.safetensors")))
    return hashlib.sha256(data).hexdigest()


def floating_pictures(found: list[Record]) -> float | None:
    """Share of the pictures whose mesh has a piece of FLOATING_LEAST of its area, or more, that hangs in the air."""
    if not found:
        return None
    return round(sum(item["floating_share"] >= FLOATING_LEAST for item in found) / len(found), 4)


def _levers(records: Records, model: Callable[..., ShapeModel], count: int) -> Record:
    """Each lossy lever on the first ``count`` shapes (one a category), beside the lossless figure."""
    names = list(CATEGORIES)[:: max(1, len(CATEGORIES) // max(1, count))][:count]
    found: dict[str, list[Record]] = {lever: [] for lever in ("none", *LEVERS)}
    for name in names:
        for lever, items in found.items():

            def make(name: str = name, lever: str = lever) -> Record:
                chosen = model(torch.bfloat16) if lever == "bf16" else model()
                return procedural_record(chosen, name, 0, "flashvdm" if lever == "flashvdm" else "lean")

            items.append(records.get("procedural" if lever == "none" else lever, f"{name}-0", make))
    return {lever: _means(items, ("iou", "chamfer")) | {"count": len(items)} for lever, items in found.items()}


def _means(items: list[Record], keys: tuple[str, ...]) -> Record:
    return {key: round(float(np.mean([item[key] for item in items])), 4) if items else None for key in keys}


def _number(value: object) -> bool:
    return isinstance(value, (int, float))


def machine() -> Record:
    """What the figures were taken on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_threads": torch.get_num_threads(),
        "device": "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def weights() -> Record:
    """Name and hash of the model that was measured."""
    import hy3dgen

    path = Path(hy3dgen.__file__).parent / "assets" / "nano" / "model.fp16.safetensors"
    return {"name": "nano", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}


def build_parser() -> argparse.ArgumentParser:
    defaults = catalogue_entry("nano").defaults
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="one shape a category, two pictures, no outside meshes; some minutes")
    add("--per-category", type=int, default=SHAPES_PER_CATEGORY, help="procedural shapes of each of the 24 categories")
    add("--pictures", type=Path, default=ROOT / "assets" / "examples", help="folder of pictures")
    add("--max-pictures", type=int, default=100, help="at most so many pictures")
    add("--lever-shapes", type=int, default=12, help="shapes for the comparison of lossy levers")
    add("--texture-shapes", type=int, default=48, help="shapes whose colours are compared")
    add("--paint", type=Path, help="folder with another paint model, as training.paint export writes it")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    add("--steps", type=int, default=defaults.steps, help="denoising steps")
    add("--guidance", type=float, default=defaults.guidance, help="guidance scale")
    add("--octree-resolution", type=int, default=defaults.octree_resolution, help="cells per axis for pictures")
    add("--seed", type=int, default=0, help="seed of the noise")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "quality.json", help="where the JSON goes")
    add("--partial", type=Path, default=ROOT / "build" / "quality.jsonl", help="finished records, to go on from")
    add("--page", type=Path, help="also write the Markdown page here (docs/quality.md)")
    return parser


def main(argv: list[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    if options.quick:
        options.texture_shapes = min(options.texture_shapes, 4)
        options.per_category, options.max_pictures = 1, 2
        options.only = [part for part in options.only if part != "outside"]
    settings = Settings(options.steps, options.guidance, options.octree_resolution, options.seed)
    result = run(options, settings)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written: {options.output}")
    if options.page:
        write_page(result, options.page)
        print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
