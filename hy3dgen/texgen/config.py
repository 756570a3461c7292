"""Settings of the paint pipeline: the one home of their defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from PIL import Image

from hy3dgen.errors import UsageError

PIPE_NAMES = {"hunyuan3d-paint-v2-0": "hunyuanpaint", "hunyuan3d-paint-v2-0-turbo": "hunyuanpaint-turbo"}
DEFAULT_SUBFOLDER = "hunyuan3d-paint-v2-0-turbo"
TURBO_STEPS, FULL_STEPS = 10, 30
VIEWS_DEG = ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (180, -90))
"""Azimuth and elevation of the views that are painted."""
Fill = Literal["reference", "surface"]
Start = Literal["noise", "guess"]
# recall('views', make): the pictures of this name from an earlier run, else those that make() gives
Recall = Callable[[str, Callable[[], list[Image.Image]]], list[Image.Image]]


def make_anew(name: str, make: Callable[[], list[Image.Image]]) -> list[Image.Image]:
    """The ``Recall`` that keeps nothing."""
    return make()


@dataclass
class Hunyuan3DTexGenConfig:
    """Plain settings; change them before a call, sizes before the pipeline is built.

    light_remover_ckpt_path: folder of the delight model, None to go without; multiview_ckpt_path: of the paint model
    subfolder_name: which of the two paint models it is
    device, dtype: None for what suits the machine
    candidate_camera_azims, candidate_camera_elevs: degrees, one view each; candidate_view_weights: their trust
    render_size: pixels of the maps and the projected views; texture_size: texels of the texture
    bake_exp: exponent of the cosine in a texel's trust
    delight_inference_steps, multiview_inference_steps: None for the model's usual number (30, turbo 10)
    vae_slicing: one picture at a time through the VAEs; vae_tiling: tile size in pixels, lossy, None for whole pictures
    vae_strips: each picture through the VAEs in horizontal strips, exact: about half of the memory, more time
    attention_slicing: None where it helps, True or False to insist
    split_guidance: run the halves of guidance one after the other
    split_feed_forward: one view at a time through the feed-forward layers of the paint model
    compile_blocks: torch.compile for the blocks of both UNets, from their first use on
    multiview_guidance: guidance scale of the views, 1 runs without guidance; None for the pipeline's usual one
    start: 'noise', or 'guess': the front picture spread over all views (``guess``), for models taught to correct that
    takes_light_out: the paint model was taught to do without a delight model
    fill: how texels that no view shows get their colour: 'reference' (the reference's numbers) or 'surface' (along
        the mesh, across texture seams)
    """

    light_remover_ckpt_path: str | None
    multiview_ckpt_path: str
    subfolder_name: str = DEFAULT_SUBFOLDER
    device: str | torch.device | None = None
    dtype: str | torch.dtype | None = None
    candidate_camera_azims: list[int] = field(default_factory=lambda: [azimuth for azimuth, _ in VIEWS_DEG])
    candidate_camera_elevs: list[int] = field(default_factory=lambda: [elevation for _, elevation in VIEWS_DEG])
    candidate_view_weights: list[float] = field(default_factory=lambda: [1, 0.1, 0.5, 0.1, 0.05, 0.05])
    render_size: int = 2048
    texture_size: int = 2048
    bake_exp: int = 4
    merge_method: str = "fast"
    delight_inference_steps: int = 50
    multiview_inference_steps: int | None = None
    vae_slicing: bool = True
    vae_tiling: int | None = None
    vae_strips: bool = False
    attention_slicing: bool | None = None
    split_guidance: bool = False
    split_feed_forward: bool = False
    compile_blocks: bool = False
    multiview_guidance: float | None = None
    start: Start = "noise"
    takes_light_out: bool = False
    fill: Fill = "reference"

    def __post_init__(self) -> None:
        """Raises UsageError for a sub-folder that is no paint model's."""
        self.pipe_dict = dict(PIPE_NAMES)
        if self.subfolder_name not in self.pipe_dict:
            raise UsageError(f"'{self.subfolder_name}' is no paint model; use one of {', '.join(self.pipe_dict)}")
        self.pipe_name = self.pipe_dict[self.subfolder_name]
        if self.multiview_inference_steps is None:
            self.multiview_inference_steps = TURBO_STEPS if self.pipe_name.endswith("turbo") else FULL_STEPS
