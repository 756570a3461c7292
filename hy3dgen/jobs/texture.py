"""From a mesh and pictures to a coloured mesh: new UVs where they are needed, then one of the ways to colour.

The one door through which a texture model enters a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hy3dgen.errors import WeightsNotFoundError
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.plan import StagePlan
from hy3dgen.runtime.stages import stage
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import find_folder, locate_folder

Coverage = Mapping[str, float]
PAINTED = ("paint", "paint-turbo")
SMALL = "paint-nano"
"""The package's own paint model: it works beside the projected picture and needs no delight model."""
WEIGHT_ENDINGS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Place:
    """Where and how colouring runs. engine: the memory plan at work, None without one."""

    device: torch.device
    dtype: torch.dtype
    engine: Engine | None = None


def ensure_available(options: JobOptions, download: DownloadOptions | None = None) -> None:
    """Find, or fetch, the weights of the way of colouring now, before any work.

    Raises WeightsNotFoundError, LicenceError or DownloadError.
    """
    for name in _models(options.texture, delight=options.delight):
        try:
            locate_folder(name, offline=options.offline or None, download=download)
        except WeightsNotFoundError as error:
            whose = "the package's own" if name == SMALL else "the official"
            what = f"--texture {options.texture} needs {whose} texture weights"
            raise WeightsNotFoundError(f"{what}; --texture project needs none. {error}") from error


def is_here(texture: str, *, delight: bool) -> bool:
    """Whether this way of colouring works without a download."""
    return all(find_folder(name) is not None for name in _models(texture, delight=delight))


def _models(texture: str, *, delight: bool) -> tuple[str, ...]:
    """The catalogue's names of the models that this way of colouring uses."""
    if texture == SMALL:
        return (SMALL,)
    if texture not in PAINTED:
        return ()
    return (texture, "delight") if delight else (texture,)


def weight_paths(options: JobOptions) -> list[Path]:
    """The weight files that colouring will use; empty for ways that need none."""
    names = _models(options.texture, delight=options.delight)
    folders = [folder for name in names if (folder := find_folder(name)) is not None]
    return [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix in WEIGHT_ENDINGS]


def with_uv(mesh: Mesh, options: JobOptions) -> Mesh:
    """The mesh with UVs: its own when it has some and ``unwrap`` is off, else new ones (stage 'unwrap')."""
    if mesh.uv is not None and not options.unwrap:
        return mesh
    with stage("unwrap") as record:
        unwrapped = unwrap(mesh, size_px=options.texture_size)
        record.figures["vertices"] = len(unwrapped.vertices)
    return unwrapped


def colour(
    mesh: Mesh, views: Mapping[str, Image.Image], options: JobOptions, place: Place, settings: Mapping[str, Any]
) -> tuple[Mesh, Coverage]:
    """The mesh with a texture from the pictures, and the shares of its texels that were seen, blended and filled.

    mesh: with UVs; views: RGBA by view name; settings: fields of the paint pipeline's config
    Opens the stages 'maps', 'bake' and 'fill'; painting also 'load' and 'views', with official models 'delight'.
    """
    if options.texture in PAINTED:
        from hy3dgen.texgen.pipelines import paint_mesh

        result = paint_mesh(
            mesh,
            list(views.values()),
            model=options.texture,
            steps=options.paint_steps,
            delight_steps=options.delight_steps,
            delight=options.delight,
            texture_size=options.texture_size,
            seed=options.seed,
            device=place.device,
            dtype=place.dtype,
            engine=place.engine,
            offline=options.offline or None,
            compile_blocks=options.compile,
            **settings,
        )
    else:
        from hy3dgen.texgen.blended import paint_beside_pictures
        from hy3dgen.texgen.projection import PictureView, Projection, project_pictures

        pictures = [PictureView(image, VIEW_AZIMUTHS_DEG[view]) for view, image in views.items()]

        def project(plan: StagePlan | None) -> Projection:
            device = torch.device(CPU) if plan is not None and plan.on_host else place.device
            if options.texture != SMALL:
                return project_pictures(mesh, pictures, texture_size=options.texture_size, device=device)
            return paint_beside_pictures(
                mesh,
                pictures,
                texture_size=options.texture_size,
                steps=options.paint_steps,
                delight=options.delight,
                seed=options.seed,
                device=device,
                dtype=place.dtype,
            )

        result = project(None) if place.engine is None else place.engine.attempts("bake", project)
    return result.mesh, asdict(result.coverage)
