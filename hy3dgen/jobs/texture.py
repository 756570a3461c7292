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
from hy3dgen.jobs.choice import PAINTED, colour_models
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap, uv_metrics
from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.plan import StagePlan
from hy3dgen.runtime.stages import stage
from hy3dgen.texgen.config import Recall
from hy3dgen.texgen.files import EMPTY_PROMPT
from hy3dgen.weights.catalogue import BUILT_IN_PAINT
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import find_folder, locate_folder

Coverage = Mapping[str, float]
MEASURED_PX = 1024
LEAST_COVERAGE = 0.005  # a few texels; maps of one point come from tools that colour by material
MUCH_OVERLAP = 0.05
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
    for name in colour_models(options.texture, delight=options.delight):
        try:
            locate_folder(name, offline=options.offline or None, download=download)
        except WeightsNotFoundError as error:
            whose = "the package's own" if name == BUILT_IN_PAINT else "the official"
            what = f"--texture {options.texture} needs {whose} texture weights"
            raise WeightsNotFoundError(f"{what}; --texture project needs none. {error}") from error


def weight_paths(options: JobOptions) -> dict[str, Path]:
    """The weight files that colouring will use, by a name without this machine's folders; empty where it needs none.

    The empty prompt's embedding, which the first run stores beside the delight model, follows from the others.
    """
    names = colour_models(options.texture, delight=options.delight)
    folders = [folder for name in names if (folder := find_folder(name)) is not None]
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in WEIGHT_ENDINGS and path.name != EMPTY_PROMPT
    }


def with_uv(mesh: Mesh, options: JobOptions) -> Mesh:
    """The mesh with UVs: its own when it has some that hold a texture and ``unwrap`` is off, else new ones.

    Opens the stage 'unwrap' when there is something to do or to say.
    """
    quality = uv_metrics(mesh, MEASURED_PX) if mesh.uv is not None and not options.unwrap else None
    if quality is not None and quality.coverage >= LEAST_COVERAGE:
        if quality.overlap > MUCH_OVERLAP:
            with stage("unwrap") as record:
                record.warn(
                    f"{quality.overlap:.0%} of the mesh's UV map lies under more than one part, so these parts share "
                    "one colour; --unwrap makes a map on which each has its own"
                )
        return mesh
    with stage("unwrap") as record:
        if quality is not None:
            record.warn(
                f"the mesh's own UV map fills only {quality.coverage:.1%} of its page, too little for a texture; a new "
                "one was made"
            )
        unwrapped = unwrap(mesh, size_px=options.texture_size)
        record.figures["vertices"] = len(unwrapped.vertices)
    return unwrapped


def colour(
    mesh: Mesh,
    views: Mapping[str, Image.Image],
    options: JobOptions,
    place: Place,
    settings: Mapping[str, Any],
    recall: Recall | None = None,
) -> tuple[Mesh, Coverage]:
    """The mesh with a texture from the pictures, and the shares of its texels that were seen, blended and filled.

    mesh: with UVs; views: RGBA by view name; settings: fields of the paint pipeline's config
    recall: keeps pictures of the paint models, 'views' and of official ones 'delighted', and brings them back
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
            recall=recall,
            **settings,
        )
    else:
        from hy3dgen.texgen.blended import paint_beside_pictures
        from hy3dgen.texgen.projection import PictureView, Projection, project_pictures

        pictures = [PictureView(image, VIEW_AZIMUTHS_DEG[view]) for view, image in views.items()]

        def project(plan: StagePlan | None) -> Projection:
            device = torch.device(CPU) if plan is not None and plan.on_host else place.device
            if options.texture != BUILT_IN_PAINT:
                # Several views are at the level that multiview asks for; one picture may come from anywhere above.
                alone = len(pictures) == 1
                size = options.texture_size
                return project_pictures(mesh, pictures, texture_size=size, find_elevations=alone, device=device)
            return paint_beside_pictures(
                mesh,
                pictures,
                texture_size=options.texture_size,
                steps=options.paint_steps,
                delight=options.delight,
                seed=options.seed,
                device=device,
                dtype=place.dtype,
                offline=options.offline or None,
                recall=recall,
            )

        result = project(None) if place.engine is None else place.engine.attempts("bake", project)
    return result.mesh, asdict(result.coverage)
