"""HunyuanPaintPipeline: reference pictures, normal and position maps -> views of the object, all denoised together.

What the reference repeats at every step and what never reaches the result is left out by construction: no text
encoder; the reference stream runs once, for the conditional half only; the unconditional half attends to no text and
no reference. Which network is on the device when is decided from outside (``residency``).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg, retrieve_timesteps
from PIL import Image
from torch import Tensor, nn

from hy3dgen.errors import ImageError, UsageError
from hy3dgen.runtime.stages import check_cancelled, ensure_finite, steps
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.solver import (
    DDIMSolver,
    append_dims,
    extract_into_tensor,
    get_predicted_noise,
    get_predicted_original_sample,
    guidance_scale_embedding,
    scalings_for_boundary_conditions,
    update_ema,
)
from hy3dgen.texgen.hunyuanpaint.unet.modules import Conditions, UNet2p5DConditionModel, feed_forward_by_view

SOLVER_STEPS = 30
TURBO_STEPS = 10
GREY = (127, 127, 127)


class ResidencyLike(Protocol):
    """Where networks run: ``visit`` has a network on ``device`` as ``dtype`` while the block runs."""

    device: torch.device
    dtype: torch.dtype

    def visit(self, name: str, *modules: nn.Module) -> contextlib.AbstractContextManager[None]: ...

    def release(self, *modules: nn.Module) -> None: ...

    def recorded(
        self, step: Callable[..., Tensor], network: nn.Module, num_steps: int
    ) -> contextlib.AbstractContextManager[Callable[..., Tensor]]: ...


_Base: Any = StableDiffusionPipeline  # its attributes are made at run time, which no type checker follows


class HunyuanPaintPipeline(_Base):
    """The paint model's diffusion loop.

    text_encoder, tokenizer and feature_extractor are accepted and never used: the embeddings are learned parameters
    of the UNet. residency: None leaves every network where it is (``pipeline.to(device)`` as usual).
    split_guidance: run the two halves of guidance one after the other, at about half of the activations.
    split_feed_forward: one view at a time through the feed-forward layers, at about two thirds of them.
    """

    residency: ResidencyLike | None = None
    split_guidance: bool = False
    split_feed_forward: bool = False
    turbo_steps: int = TURBO_STEPS

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        unet: UNet2p5DConditionModel,
        scheduler: Any,
        feature_extractor: Any,
        safety_checker: Any = None,
        use_torch_compile: bool = False,
    ) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(
            vae=use_attend(vae),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=feature_extractor,
        )
        if use_torch_compile:
            self.unet.unet.compile()
        self.solver = DDIMSolver(
            scheduler.alphas_cumprod, timesteps=scheduler.config.num_train_timesteps, ddim_timesteps=SOLVER_STEPS
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.is_turbo = False

    def set_turbo(self, is_turbo: bool) -> None:
        """Ten fixed steps without guidance (needs the LCM scheduler)."""
        self.is_turbo = is_turbo

    @property
    def run_device(self) -> torch.device:
        """Where the networks run."""
        return self.residency.device if self.residency else next(self.unet.unet.parameters()).device

    @property
    def run_dtype(self) -> torch.dtype:
        """In what precision the networks run."""
        return self.residency.dtype if self.residency else next(self.unet.unet.parameters()).dtype

    def _visit(self, name: str, *modules: nn.Module | None) -> contextlib.AbstractContextManager[None]:
        present = [module for module in modules if module is not None]
        return self.residency.visit(name, *present) if self.residency else contextlib.nullcontext()

    def _recorded(
        self, step: Callable[..., Tensor], network: nn.Module, num_steps: int
    ) -> contextlib.AbstractContextManager[Callable[..., Tensor]]:
        return self.residency.recorded(step, network, num_steps) if self.residency else contextlib.nullcontext(step)

    def encode_images(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Latents of pictures: (B, n, 3, H, W) in [0, 1] -> (B, n, 4, H/f, W/f), drawn from the posterior.

        generator: draws the posterior's noise; None uses the process's own. ``vae.enable_slicing()`` takes one
        picture at a time.
        """
        flat = ((images - 0.5) * 2.0).flatten(0, 1).to(self.run_device, self.run_dtype)
        with self._encoder_here():
            posterior = self.vae.encode(flat).latent_dist
        latents = posterior.sample(generator) * self.vae.config.scaling_factor
        return latents.unflatten(0, images.shape[:2])

    def _encoder_here(self) -> contextlib.AbstractContextManager[None]:
        return self._visit("paint_vae_encoder", self.vae.encoder, self.vae.quant_conv)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Pictures of latents: (N, 4, h, w) -> (N, 3, h·f, w·f), about [-1, 1]. Raises NumericalError on NaN or Inf."""
        with self._visit("paint_vae_decoder", self.vae.post_quant_conv, self.vae.decoder):
            pictures = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        ensure_finite(pictures, "the painted views")
        return pictures

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image] | None = None,
        prompt: Any = None,
        negative_prompt: Any = "watermark, ugly, deformed, noisy, blurry, low contrast",
        *args: Any,
        num_images_per_prompt: int = 1,
        guidance_scale: float = 2.0,
        output_type: str | None = "pil",
        width: int = 512,
        height: int = 512,
        num_inference_steps: int = 28,
        return_dict: bool = True,
        **cached_condition: Any,
    ) -> Any:
        """Paint N views. prompt and negative_prompt have no effect, as in the reference.

        image: one or R pictures of one size, RGB or RGBA (put on grey).
        cached_condition: ``normal_imgs``, ``position_imgs``: [N pictures] or (1, N, 3, H, W) in [0, 1];
        ``camera_info_gen``: [[N ints]]; ``num_in_batch``: N; ``generator``: latent noise; ``posterior_generator``:
        noise of the encoder (default: a new one with the seed of ``generator``); everything else goes to ``denoise``.
        Returns an object with ``.images`` (N PIL pictures; or a 1-tuple when return_dict is False).
        Raises ImageError, UsageError for wrong arguments; NumericalError when NaN or Inf appears; Cancelled.
        """
        if num_images_per_prompt != 1:
            raise UsageError(
                f"num_images_per_prompt is {num_images_per_prompt}; the paint pipeline makes one set of views"
            )
        if args:
            raise UsageError(
                f"the paint pipeline takes everything behind the prompts by name, got {len(args)} more values"
            )
        given = dict(cached_condition)
        noise = given.pop("posterior_generator", None) or _same_seed(given.get("generator"))
        references = _stack(_pictures(image)).to(self.run_dtype)[None]
        with self._encoder_here():  # one visit for all of them
            given["ref_latents"] = self.encode_images(references, noise)
            for name in ("normal_imgs", "position_imgs"):
                maps = given.get(name)
                if maps is not None:
                    # Rounded to half whatever the networks' precision: what the published numbers were made with.
                    pictures = maps if isinstance(maps, Tensor) else _control_stack(maps)
                    given[name] = self.encode_images(pictures, noise)
        latents = self.denoise(
            None,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            output_type="latent",
            return_dict=False,
            **given,
        )[0]
        if output_type == "latent":
            images = latents
        else:
            images = self.image_processor.postprocess(self.decode_latents(latents), output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    @torch.no_grad()
    def denoise(
        self,
        prompt: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        timesteps: list[int] | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float = 7.5,
        negative_prompt: Any = None,
        num_images_per_prompt: int | None = 1,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: Any = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        guidance_rescale: float = 0.0,
        clip_skip: int | None = None,
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        **kwargs: Any,
    ) -> Any:
        """The diffusion loop. kwargs: the conditions as ``__call__`` prepares them, for one batch row (no halves yet):
        ``ref_latents`` (1, R, 4, h, w) or ``condition_embed_dict``, ``normal_imgs``, ``position_imgs``
        (1, N, 4, h, w), ``camera_info_gen`` (1, N), ``num_in_batch`` N, ``mva_scale``.

        prompt_embeds: (1, T, D) in place of the learned text. Raises UsageError for what has no meaning here.
        """
        _refuse(negative_prompt_embeds, "negative_prompt_embeds", "the unconditional half always has zero text")
        _refuse(ip_adapter_image, "ip_adapter_image", "the paint model has no such adapter; give reference pictures")
        _refuse(ip_adapter_image_embeds, "ip_adapter_image_embeds", "the paint model has no such adapter")
        device, dtype = self.run_device, self.run_dtype
        guided = guidance_scale > 1 and not self.is_turbo
        conditions = self._conditions(prompt_embeds, kwargs)
        views = kwargs.get("num_in_batch") or torch.as_tensor(kwargs["camera_info_gen"]).shape[-1]
        times = self._timesteps(num_inference_steps, timesteps, sigmas, device)
        latents = self.prepare_latents(
            views, self.unet.config.in_channels, height, width, dtype, device, generator, latents
        )  # fmt: skip
        extra = self._step_arguments(generator, eta)
        predict = self._predictor(conditions, guided, guidance_scale, guidance_rescale, kwargs)
        with (
            feed_forward_by_view(self.unet.unet) if self.split_feed_forward else contextlib.nullcontext(),
            self._visit("paint_unet", self.unet.unet),
            self._recorded(predict, self.unet.unet, len(times)) as predicted,
        ):
            for i, t in enumerate(steps(times, total=len(times))):
                noise = predicted(self.scheduler.scale_model_input(latents, t), t)
                if i == 0 and self.residency is not None:
                    self.residency.release(*_used_up(self.unet.unet))
                latents = self.scheduler.step(noise, t, latents, **extra, return_dict=False)[0]
                if callback_on_step_end is not None:
                    latents = self._called_back(callback_on_step_end, callback_on_step_end_tensor_inputs, i, t, latents)
        ensure_finite(latents, "the latents of the painted views")
        if output_type != "latent":
            images = self.image_processor.postprocess(self.decode_latents(latents), output_type=output_type)
        else:
            images = latents
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _conditions(self, text: Tensor | None, given: dict[str, Any]) -> Conditions:
        """Text and reference of the conditional row; the reference stream runs here, once."""
        device, dtype = self.run_device, self.run_dtype
        learned = self.unet.unet.learned_text_clip_gen if text is None else text
        features = given.get("condition_embed_dict")
        if features is None:
            if given.get("ref_latents") is None:
                raise UsageError("the paint pipeline needs reference pictures (ref_latents or condition_embed_dict)")
            check_cancelled()
            with self._visit("paint_unet_dual", self.unet.unet_dual):
                features = self.unet.encode_reference(
                    given["ref_latents"].to(device, dtype), text=self.unet.unet.learned_text_clip_ref.to(device, dtype)
                )
        return Conditions(1, text=learned.to(device, dtype), features=dict(features), ref_scale=1.0)

    def _timesteps(self, count: int, times: Any, sigmas: Any, device: torch.device) -> Tensor:
        if self.is_turbo:  # every third entry of the solver's table, from its end, for the usual ten steps
            if not 1 <= self.turbo_steps <= SOLVER_STEPS:
                raise UsageError(
                    f"{self.turbo_steps} turbo steps are not possible; use 1 to {SOLVER_STEPS}, usual are 10"
                )
            return retrieve_timesteps(self.scheduler, self.turbo_steps, device, original_inference_steps=SOLVER_STEPS)[
                0
            ]
        return retrieve_timesteps(self.scheduler, count, device, times, sigmas)[0]

    def _step_arguments(self, generator: torch.Generator | None, eta: float) -> dict[str, Any]:
        accepted = inspect.signature(self.scheduler.step).parameters
        return {k: v for k, v in (("generator", generator), ("eta", eta)) if k in accepted}

    def _predictor(
        self, conditions: Conditions, guided: bool, scale: float, rescale: float, given: dict[str, Any]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """The function (latents (N, 4, h, w), timestep) -> prediction (N, 4, h, w), guidance included."""
        device, dtype = self.run_device, self.run_dtype
        bag = {k: given[k].to(device, dtype) for k in ("normal_imgs", "position_imgs") if given.get(k) is not None}
        bag["camera_info_gen"] = torch.as_tensor(given["camera_info_gen"], dtype=torch.int64, device=device)
        mva_scale = given.get("mva_scale", 1.0)

        def once(latents: Tensor, t: Tensor, rows: int, looked_at: Conditions) -> Tensor:
            wide = {k: v.expand(rows, *v.shape[1:]) for k, v in bag.items()}
            sample = latents[None].expand(rows, *latents.shape)
            return self.unet(sample, t, None, conditions=looked_at, mva_scale=mva_scale, **wide)[0]

        def predict(latents: Tensor, t: Tensor) -> Tensor:
            if not guided:
                return once(latents, t, 1, conditions)
            if self.split_guidance:
                without = once(latents, t, 1, Conditions(0))
                check_cancelled()
                with_ = once(latents, t, 1, conditions)
            else:
                without, with_ = once(latents, t, 2, conditions).chunk(2)
            noise = without + scale * (with_ - without)
            return noise if rescale <= 0 else rescale_noise_cfg(noise, with_, guidance_rescale=rescale)

        return predict

    def _called_back(
        self, callback: Callable[..., dict[str, Any]], names: Sequence[str], i: int, t: Tensor, latents: Tensor
    ) -> Tensor:
        """diffusers' callback protocol; of the tensors only the latents exist here."""
        unknown = [name for name in names if name != "latents"]
        if unknown:
            raise UsageError(f"callback_on_step_end_tensor_inputs {unknown} do not exist here; only 'latents' does")
        changed = callback(self, i, t, {"latents": latents} if "latents" in names else {})
        return changed.pop("latents", latents) if changed else latents


def to_rgb_image(maybe_rgba: Image.Image) -> Image.Image:
    """RGB as it is; RGBA put on mid grey. Raises ImageError (a ValueError) for other modes."""
    if maybe_rgba.mode == "RGB":
        return maybe_rgba
    if maybe_rgba.mode == "RGBA":
        on_grey = Image.new("RGB", maybe_rgba.size, GREY)
        on_grey.paste(maybe_rgba, mask=maybe_rgba.getchannel("A"))
        return on_grey
    raise ImageError(f"a reference picture has mode {maybe_rgba.mode}; convert it to RGB or RGBA first")


def _pictures(image: Any) -> list[Image.Image]:
    """What ``__call__`` accepts as reference, as RGB pictures of one size."""
    if image is None:
        raise ImageError("the paint pipeline needs at least one reference picture (image=...)")
    pictures = list(image) if isinstance(image, (list, tuple)) else [image]
    if not pictures or not all(isinstance(p, Image.Image) for p in pictures):
        raise UsageError(f"image= takes one PIL picture or a list of them, got {type(image).__name__}")
    sizes = {p.size for p in pictures}
    if len(sizes) > 1:
        raise ImageError(f"reference pictures must have one size, got {sorted(sizes)}; resize them first")
    return [to_rgb_image(p) for p in pictures]


def _stack(pictures: Sequence[Image.Image]) -> Tensor:
    """(n, 3, H, W) float64 in [0, 1]."""
    return torch.stack([torch.from_numpy(np.array(p) / 255.0).permute(2, 0, 1) for p in pictures])


def _control_stack(maps: Any) -> Tensor:
    """[[N pictures]] -> (1, N, 3, H, W) half in [0, 1]; a fourth channel is alpha over white."""
    rows = maps if isinstance(maps[0], (list, tuple)) else [maps]
    stacked = []
    for picture in (p for row in rows for p in row):
        # Bytes are turned into planes, not floats, and the rest is done by torch's threads: several times as fast.
        values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float() / 255
        if len(values) == 4:
            values = values[:3] * values[3:] + (1.0 - values[3:])
        stacked.append(values.to(torch.float16))
    return torch.stack(stacked).unflatten(0, (len(rows), -1))


def _same_seed(generator: Any) -> torch.Generator | None:
    """A new generator with this one's seed: the encoder's noise comes from a second stream with the same start."""
    if not isinstance(generator, torch.Generator):
        return None
    return torch.Generator(device=generator.device).manual_seed(generator.initial_seed())


def _used_up(unet: nn.Module) -> Iterator[nn.Module]:
    """Projections whose keys and values are kept after the first step: those of the text and of the reference."""
    for name, module in unet.named_modules():
        if name.endswith((".attn2.to_k", ".attn2.to_v", ".attn_refview.to_k", ".attn_refview.to_v")):
            yield module


def _refuse(value: Any, name: str, why: str) -> None:
    if value is not None:
        raise UsageError(f"{name} cannot be used: {why}")


__all__ = [
    "HunyuanPaintPipeline",
    "DDIMSolver",
    "append_dims",
    "extract_into_tensor",
    "get_predicted_noise",
    "get_predicted_original_sample",
    "guidance_scale_embedding",
    "scalings_for_boundary_conditions",
    "to_rgb_image",
    "update_ema",
]
