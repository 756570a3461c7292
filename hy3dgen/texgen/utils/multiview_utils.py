"""Paint the views: ``Multiview_Diffusion_Net`` around the paint pipeline.

The paint model's text encoder, tokenizer and image encoder are never loaded: nothing of them reaches the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hy3dgen.errors import NumericalError, UsageError
from hy3dgen.runtime.device import pick_device, pick_dtype
from hy3dgen.runtime.stages import StageRecord, current
from hy3dgen.texgen.guess import first_guess
from hy3dgen.texgen.hunyuanpaint.pipeline import HunyuanPaintPipeline
from hy3dgen.texgen.loading import load_paint_unet, load_scheduler, load_vae
from hy3dgen.texgen.residency import OnDemand
from hy3dgen.texgen.savings import apply_strips, attention_of_unets, dtypes_to_try, note_vae_switches, set_tile_size
from hy3dgen.texgen.views import camera_index, flattened, resized

VIEW_SIZE_PX = 512
BLACK = 2  # a view in which no value exceeds this, of 255, shows nothing
TURBO = "hunyuanpaint-turbo"
FRONT_CAMERA = camera_index(0, 0)
NEARLY_WHITE = 247
"""Colours from here on count as background in a picture without transparency."""


class Multiview_Diffusion_Net:
    """The paint stage. config: a ``Hunyuan3DTexGenConfig``; read here: ``multiview_ckpt_path``, ``pipe_name``,
    ``device``, ``dtype``, ``multiview_inference_steps``, ``multiview_guidance``, ``start``, ``vae_slicing``,
    ``vae_tiling``, ``vae_strips``, ``attention_slicing``, ``split_guidance``, ``split_feed_forward``.

    Attributes: ``pipeline``, ``view_size`` (pixels; at most 512, less for small networks), ``seed``.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.device = pick_device(config.device)
        self.seed = 0
        folder, turbo = Path(config.multiview_ckpt_path), config.pipe_name == TURBO
        self.pipeline: Any = HunyuanPaintPipeline(
            vae=load_vae(folder / "vae"),
            text_encoder=None,
            tokenizer=None,
            unet=load_paint_unet(folder / "unet"),
            scheduler=load_scheduler(folder / "scheduler", turbo=turbo, timestep_spacing="trailing"),
            feature_extractor=None,
        )
        self.pipeline.set_turbo(turbo)
        self.pipeline.residency = OnDemand(self.device, pick_dtype(self.device, config.dtype))
        sample = self.pipeline.unet.config.sample_size
        side = VIEW_SIZE_PX if sample is None else sample * self.pipeline.vae_scale_factor
        self.view_size = min(VIEW_SIZE_PX, side)

    def seed_everything(self, seed: int) -> None:
        """Use this seed from the next call on. Unlike the reference's, it leaves the process's generators alone."""
        self.seed = seed

    def __call__(
        self, input_images: Sequence[Image.Image], control_images: Sequence[Image.Image], camera_info: Sequence[int]
    ) -> list[Image.Image]:
        """Paint one view for each camera: RGB, view_size squared.

        input_images: reference pictures; control_images: normal maps, then as many position maps; camera_info: camera
        indices. A model that starts from a guess takes the first picture cut out (RGBA), seen from the front, and the
        front as first camera; else it starts from noise. The arguments are left as they are. NaN or an all-black view
        is repeated in float32 and noted in the stage's record. Raises UsageError when counts do not fit, NumericalError
        when float32 gives NaN too.
        """
        count = len(control_images) // 2
        if len(control_images) != 2 * count or count != len(camera_info):
            raise UsageError(
                f"{len(camera_info)} cameras need as many normal maps and position maps, got {len(control_images)} maps"
            )
        size = (self.view_size, self.view_size)
        references = [
            flattened(picture, self.view_size) if self._guesses else picture.resize(size) for picture in input_images
        ]
        maps = resized(control_images, size)
        guess = self._guess(input_images, maps, list(camera_info))

        def paint() -> list[Image.Image]:
            return self.pipeline(
                references,
                num_inference_steps=self.config.multiview_inference_steps,
                generator=self._generator(),
                posterior_generator=self._generator(),
                width=self.view_size,
                height=self.view_size,
                num_in_batch=count,
                camera_info_gen=[list(camera_info)],
                camera_info_ref=[[0]],
                normal_imgs=[maps[:count]],
                position_imgs=[maps[count:]],
                **self._wishes(guess),
            ).images

        self._apply_memory_switches()
        record = current()
        with attention_of_unets(self.config.attention_slicing, self.device, record):
            return self._guarded(paint, record)

    def _guess(self, pictures: Sequence[Image.Image], maps: Sequence[Image.Image], cameras: list[int]) -> Tensor | None:
        """(1, N, 3, S, S) in [0, 1]: the first picture spread over the views, for a model that starts from it."""
        if not self._guesses or cameras[0] != FRONT_CAMERA:
            return None
        normals, positions = (
            torch.stack([_tensor(picture) for picture in part])[None]
            for part in (maps[: len(cameras)], maps[len(cameras) :])
        )
        return first_guess(normals, positions, cut_out_tensor(pictures[0])[None]).views

    @property
    def _guesses(self) -> bool:
        return getattr(self.config, "start", "noise") == "guess"

    def _wishes(self, guess: Tensor | None) -> dict[str, Any]:
        """Arguments of the pipeline that only some models ask for."""
        guidance, wishes = getattr(self.config, "multiview_guidance", None), {}
        if guidance is not None:
            wishes["guidance_scale"] = guidance
        if guess is not None:
            wishes["latents"] = self.pipeline.encode_images(guess.clamp(0, 1), self._generator())[0]
        return wishes

    def _generator(self) -> torch.Generator:
        """On the device, as the reference's, so that equal seeds give its noise."""
        return torch.Generator(device=self.device).manual_seed(self.seed)

    def _guarded(self, paint: Any, record: StageRecord) -> list[Image.Image]:
        """``paint()``, repeated in float32 when it gives NaN or a black view."""
        residency = self.pipeline.residency
        asked = residency.dtype
        attempts = dtypes_to_try(asked)
        try:
            for attempt in attempts:
                residency.dtype, is_last = attempt, attempt is attempts[-1]
                again = "" if is_last else "; painting is repeated in float32"
                try:
                    views = paint()
                except NumericalError as error:
                    if is_last:
                        raise
                    record.warn(f"{error}{again}")
                    continue
                black = [i for i, view in enumerate(views) if np.array(view).max() <= BLACK]
                if black:
                    record.warn(f"painted views {black} are all black{again}")
                if not black or is_last:
                    return views
        finally:
            residency.dtype = asked
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _apply_memory_switches(self) -> None:
        """VAE slicing (one picture at a time), tiling (lossy, only with a size), strips (exact), on this VAE."""
        record, vae = current(), self.pipeline.vae
        if self.config.vae_slicing:
            vae.enable_slicing()
        else:
            vae.disable_slicing()
        if self.config.vae_tiling:
            set_tile_size(vae, self.config.vae_tiling)
        else:
            vae.disable_tiling()
        note_vae_switches(self.config.vae_slicing, self.config.vae_tiling, record)
        apply_strips(vae, self.config.vae_strips, record)
        self.pipeline.split_guidance = self.config.split_guidance
        self.pipeline.split_feed_forward = by_view = self.config.split_feed_forward
        if self.pipeline.is_turbo:
            self.pipeline.turbo_steps = self.config.multiview_inference_steps
        why = "the inner values of one view at a time" if by_view else "all views at once are faster"
        record.decide("feed-forward of one view at a time", by_view, why)
        why = "half of the activations" if self.config.split_guidance else "both at once are faster"
        if not self.pipeline.is_turbo:
            record.decide("guidance halves one after the other", self.config.split_guidance, why)


def cut_out_tensor(picture: Image.Image) -> Tensor:
    """(4, H, W) float32 in [0, 1]: RGBA; without transparency, whatever is not white is the object."""
    pixels = np.array(picture.convert("RGBA"))
    if picture.mode != "RGBA":
        pixels[..., 3] = np.where((pixels[..., :3] >= NEARLY_WHITE).all(-1), 0, 255)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
