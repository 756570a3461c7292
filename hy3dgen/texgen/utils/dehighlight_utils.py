"""Take light and shadow out of a picture: ``Light_Shadow_Remover``, and the diffusion pipeline under it.

The instruct-pix2pix network runs without guidance (its guidance scale is 1), so one batch row is all there is, and
its text is always empty, so the text states are a constant of the checkpoint and no text encoder is ever kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from hy3dgen.errors import ImageError, NumericalError
from hy3dgen.images.load import open_picture
from hy3dgen.runtime.device import pick_device, pick_dtype
from hy3dgen.runtime.seeds import generator as seeded
from hy3dgen.runtime.stages import current, ensure_finite, steps
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.loading import empty_prompt, load_scheduler, load_unet, load_vae
from hy3dgen.texgen.residency import OnDemand
from hy3dgen.texgen.savings import apply_strips, attention_of_unets, dtypes_to_try, note_vae_switches, set_tile_size

SEED = 42
SIZE_PX = 512
_Base: Any = DiffusionPipeline  # its attributes are made at run time, which no type checker follows


class DelightPipeline(_Base):
    """VAE, UNet (latent and picture channels) and scheduler: a picture -> the same picture without light."""

    model_cpu_offload_seq = "unet->vae"

    def __init__(self, vae: Any, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=use_attend(vae), unet=use_attend(unet), scheduler=scheduler)
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.residency = OnDemand(unet.device, unet.dtype)

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image,
        prompt_embeds: Tensor,
        *,
        num_inference_steps: int = 50,
        generator: torch.Generator | None = None,
    ) -> Image.Image:
        """image: RGB; prompt_embeds: (1, T, D). Returns RGB of the same size (down to a multiple of the VAE's factor).

        Raises NumericalError when NaN or Inf appears; Cancelled.
        """
        device, dtype, stay = self.residency.device, self.residency.dtype, self.residency.visit
        pixels = self.image_processor.preprocess(image).to(device, dtype)
        with stay("delight_vae_encoder", *_parts(self.vae.encoder, self.vae.quant_conv)):
            seen = self.vae.encode(pixels).latent_dist.mode()
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = randn_tensor(seen.shape, generator=generator, device=device, dtype=dtype)
        latents = latents * self.scheduler.init_noise_sigma
        text = prompt_embeds.to(device, dtype)

        def predict(given: Tensor, t: Tensor) -> Tensor:
            return self.unet(given, t, encoder_hidden_states=text, return_dict=False)[0]

        with (
            stay("delight_unet", self.unet),
            self.residency.recorded(predict, self.unet, num_inference_steps) as predicted,
        ):
            for t in steps(self.scheduler.timesteps):
                given = torch.cat([self.scheduler.scale_model_input(latents, t), seen], dim=1)
                noise = predicted(given, t)
                latents = self.scheduler.step(noise, t, latents, generator=generator, return_dict=False)[0]
        ensure_finite(latents, "the latents of the delighted picture")
        with stay("delight_vae_decoder", *_parts(self.vae.post_quant_conv, self.vae.decoder)):
            decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        ensure_finite(decoded, "the delighted picture")
        return self.image_processor.postprocess(decoded, output_type="pil")[0]


class Light_Shadow_Remover:
    """The delight stage. config: a ``Hunyuan3DTexGenConfig``; read here: ``light_remover_ckpt_path``, ``device``,
    ``dtype``, ``delight_inference_steps``, ``vae_slicing``, ``vae_tiling``, ``vae_strips``,
    ``attention_slicing``.

    Attributes: ``pipeline``, ``image_size`` (pixels; at most 512, less for small networks), ``seed``. ``cfg_image``
    and ``cfg_text`` are the reference's settings, which switch guidance off.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.device = pick_device(config.device)
        self.cfg_image = 1.5
        self.cfg_text = 1.0
        self.seed = SEED
        folder = Path(config.light_remover_ckpt_path)
        self.pipeline: Any = DelightPipeline(
            load_vae(folder / "vae"), load_unet(folder / "unet"), load_scheduler(folder / "scheduler")
        )
        self.pipeline.residency = OnDemand(self.device, pick_dtype(self.device, config.dtype))
        self.prompt_embeds = empty_prompt(folder)
        sample = self.pipeline.unet.config.sample_size
        side = SIZE_PX if sample is None else sample * self.pipeline.vae_scale_factor
        self.image_size = min(SIZE_PX, side)

    def recorrect_rgb(
        self, src_image: Tensor, target_image: Tensor, alpha_channel: Tensor, scale: float = 0.95
    ) -> Tensor:
        """The function ``recorrect_rgb``."""
        return recorrect_rgb(src_image, target_image, alpha_channel, scale)

    def __call__(self, image: Image.Image) -> Image.Image:
        """The picture without light, RGB, image_size squared. image: any mode; alpha is put on white.

        Same picture, same result: the noise comes from a generator of its own. NaN or an all-black result is repeated
        in float32 and noted in the stage's record; raises NumericalError when that fails too.
        """
        size = self.image_size
        picture, target, alpha = _prepare(_rgb_or_rgba(image), size)
        lit = torch.from_numpy(np.array(self._without_light(picture)) / 255.0)
        corrected = self.recorrect_rgb(lit, target, alpha)
        rgb = corrected[..., :3] * corrected[..., 3:] + (1.0 - corrected[..., 3:])
        return Image.fromarray((rgb * 255.0).numpy().astype(np.uint8))

    def _without_light(self, picture: Image.Image) -> Image.Image:
        """The diffusion call, repeated in float32 when it gives NaN or black."""
        record, residency = current(), self.pipeline.residency
        asked = residency.dtype
        self._apply_memory_switches()
        attempts = dtypes_to_try(asked)
        try:
            with attention_of_unets(self.config.attention_slicing, self.device, record):
                for attempt in attempts:
                    residency.dtype = attempt
                    try:
                        result = self.pipeline(
                            picture,
                            self.prompt_embeds,
                            num_inference_steps=self.config.delight_inference_steps,
                            generator=seeded(self.seed),
                        )
                    except NumericalError as error:
                        if attempt is attempts[-1]:
                            raise
                        record.warn(f"{error}; delighting is repeated in float32")
                        continue
                    if np.array(result).max() > 0 or np.array(picture).max() == 0:
                        return result
                    again = "" if attempt is attempts[-1] else "; delighting is repeated in float32"
                    record.warn(f"the delighted picture is all black{again}")
        finally:
            residency.dtype = asked
        raise NumericalError(
            "the delight model made an all-black picture, in float32 too; --no-delight keeps the picture as it is"
        )

    def _apply_memory_switches(self) -> None:
        """VAE slicing (one picture at a time), tiling (lossy, only with a size), strips (exact), on this VAE."""
        vae = self.pipeline.vae
        if self.config.vae_slicing:
            vae.enable_slicing()
        else:
            vae.disable_slicing()
        if self.config.vae_tiling:
            set_tile_size(vae, self.config.vae_tiling)
        else:
            vae.disable_tiling()
        note_vae_switches(self.config.vae_slicing, self.config.vae_tiling, current())
        apply_strips(vae, self.config.vae_strips, current())


def recorrect_rgb(src_image: Tensor, target_image: Tensor, alpha_channel: Tensor, scale: float = 0.95) -> Tensor:
    """Move mean and spread of each channel of ``src_image`` to those of ``target_image``, if that brings it closer.

    src_image, target_image: (H, W, 3) float in [0, 1]; alpha_channel: (H, W, 1), statistics count where it is > 0.5
    scale: share of the means that is exchanged. Returns (H, W, 4): colour and alpha, in the inputs' dtype.
    Where statistics do not exist (fewer than two opaque pixels, a channel without any spread) src_image is kept.
    """
    inside = alpha_channel[..., 0] > 0.5
    corrected = src_image
    if int(inside.sum()) > 1:
        own, wanted = src_image[inside], target_image[inside]
        spread = wanted.std(dim=0) / own.std(dim=0)
        corrected = ((src_image - scale * own.mean(dim=0)) * spread + scale * wanted.mean(dim=0)).clamp(0, 1)
    error_kept = ((src_image - target_image) ** 2).mean()
    error_corrected = ((corrected - target_image) ** 2).mean()
    keep = bool(error_kept < error_corrected) or not bool(torch.isfinite(corrected).all())
    return torch.cat([src_image if keep else corrected, alpha_channel], dim=-1)


def _prepare(image: Image.Image, size: int) -> tuple[Image.Image, Tensor, Tensor]:
    """(RGB picture for the network, (S, S, 3) its colours and (S, S, 1) its eroded alpha, float64 in [0, 1])."""
    image = image.resize((size, size))
    if image.mode != "RGBA":
        target = torch.from_numpy(np.array(image) / 255.0)
        return image, target, torch.ones_like(target[..., :1])
    pixels = np.array(image)
    alpha = cv2.erode(pixels[..., 3], np.ones((3, 3), np.uint8), iterations=1)
    colour = np.where(alpha[..., None] == 0, np.uint8(255), pixels[..., :3])
    target, coverage = torch.from_numpy(colour / 255.0), torch.from_numpy(alpha[..., None] / 255.0)
    return Image.fromarray(colour), target, coverage


def _rgb_or_rgba(image: Image.Image) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise ImageError(f"the delight stage takes a PIL picture, got {type(image).__name__}")
    return image if image.mode in ("RGB", "RGBA") else open_picture(image)


def _parts(*modules: Any) -> list[Any]:
    return [module for module in modules if module is not None]
