"""What the stages of a job use for the first time, woken up while models load and meshes are tidied."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from hy3dgen.jobs.choice import PAINTED
from hy3dgen.jobs.options import JobOptions
from hy3dgen.runtime.plan import Plan
from hy3dgen.runtime.warm import Waking, first_convolutions, first_kernels

PICTURE_PX = 64
"""A multiple of 16, as real pictures are: Triton compiles other kernels for other widths."""


def for_shapes(options: JobOptions, device: torch.device, dtype: torch.dtype) -> list[Waking]:
    """What the stages from condition to decode need."""
    walk: list[Waking] = [_compile_walk] if options.decoder == "hierarchical" else []
    return [partial(first_kernels, device, dtype), *walk]


def for_colours(options: JobOptions, plan: Plan | None, device: torch.device, dtype: torch.dtype) -> list[Waking]:
    """What the stages from delight to bake need, under this memory plan."""
    if options.texture == "none":
        return []
    painted = options.texture in PAINTED
    libraries: list[Waking] = [_import_paint_libraries, partial(first_convolutions, device, dtype)] if painted else []
    draws_here = plan is None or not any(stage.on_host for stage in plan.stages if stage.name in ("maps", "bake"))
    return [*libraries, *([partial(_draw_and_bake, device)] if draws_here else [])]


def _compile_walk() -> None:
    from hy3dgen.shapegen.models.autoencoders.decoding.lean import compile_loops

    compile_loops()


def _import_paint_libraries() -> None:
    """diffusers and what it brings take seconds."""
    import hy3dgen.texgen.utils.dehighlight_utils
    import hy3dgen.texgen.utils.multiview_utils  # noqa: F401


def _draw_and_bake(device: torch.device) -> None:
    """A triangle drawn and its picture laid on its texture: compiles the rasteriser where it is compiled."""
    from hy3dgen.baking.blend import Merge
    from hy3dgen.baking.splat import back_project
    from hy3dgen.rendering import maps
    from hy3dgen.rendering.cameras import View
    from hy3dgen.rendering.surface import prepare

    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=np.float32)
    mesh = prepare(corners, np.array([[0, 1, 2]]), corners[:, :2], device=device)
    drawing = maps.draw(mesh, View(0.0), (PICTURE_PX, PICTURE_PX))
    for drawn in (maps.normal_map(drawing), maps.position_map(drawing)):
        maps.to_uint8(drawn)
    pixels = torch.zeros(PICTURE_PX, PICTURE_PX, 3, device=device)
    texture, cosine = back_project(pixels, drawing, (PICTURE_PX, PICTURE_PX))
    merge = Merge()
    merge.add(texture, cosine)
    merge.result()
