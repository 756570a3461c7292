"""From a mesh and pictures to a coloured mesh: new UVs where they are needed, then one of the ways to colour.

The one door through which a texture model enters a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import torch
from PIL import Image

from hy3dgen.errors import WeightsNotFoundError
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.runtime.stages import stage

Coverage = Mapping[str, float]


def ensure_available(texture: str) -> None:
    """Raise WeightsNotFoundError now, before any work, when the weights for this way of colouring are missing."""
    if texture in ("paint", "paint-turbo"):
        raise WeightsNotFoundError(
            f"--texture {texture} needs the official texture weights, and they are not on this machine; "
            "use --texture project, which needs none"
        )


def with_uv(mesh: Mesh, options: JobOptions) -> Mesh:
    """The mesh with UVs: its own when it has some and ``unwrap`` is off, else new ones (stage 'unwrap')."""
    if mesh.uv is not None and not options.unwrap:
        return mesh
    with stage("unwrap") as record:
        unwrapped = unwrap(mesh, size_px=options.texture_size)
        record.figures["vertices"] = len(unwrapped.vertices)
    return unwrapped


def colour(
    mesh: Mesh, views: Mapping[str, Image.Image], options: JobOptions, device: torch.device
) -> tuple[Mesh, Coverage]:
    """The mesh with a texture from the pictures, and the shares of its texels that were seen, blended and filled.

    mesh: with UVs; views: RGBA by view name. Opens the stages 'maps', 'bake' and 'fill'.
    """
    from hy3dgen.texgen.projection import PictureView, project_pictures

    pictures = [PictureView(image, VIEW_AZIMUTHS_DEG[view]) for view, image in views.items()]
    projection = project_pictures(mesh, pictures, texture_size=options.texture_size, device=device)
    return projection.mesh, asdict(projection.coverage)
