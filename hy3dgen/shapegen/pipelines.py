"""Pictures to meshes: condition, denoise, decode, extract.

The two pipeline classes keep the names, parameters and defaults that existing scripts use. What they add: networks
live in their file until needed, ``device`` and ``dtype`` follow the machine, stages are recorded and can be cancelled.
The loop over flow time is in ``sampling``, loading in ``pipeline_base``, the placing of networks in ``placement``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor, nn

from hy3dgen.errors import UsageError
from hy3dgen.runtime.graphs import replayed
from hy3dgen.runtime.stages import CancelEvent, cancelling, current, stage
from hy3dgen.shapegen import inputs, sampling
from hy3dgen.shapegen.finite import first_finite
from hy3dgen.shapegen.loading import instantiate
from hy3dgen.shapegen.pipeline_base import ShapePipeline
from hy3dgen.shapegen.registry import resolve
from hy3dgen.shapegen.sampling import retrieve_timesteps
from hy3dgen.weights.config import Target

__all__ = [
    "Hunyuan3DDiTPipeline",
    "Hunyuan3DDiTFlowMatchingPipeline",
    "export_to_trimesh",
    "instantiate_from_config",
    "get_obj_from_str",
    "retrieve_timesteps",
]


def get_obj_from_str(string: str, reload: bool = False) -> Any:
    """The class of this package that a dotted path names; ``reload`` has no effect. Raises UsageError for any other."""
    return resolve(string)


def instantiate_from_config(config: Mapping[str, Any], **kwargs: Any) -> Any:
    """An object from {'target': dotted path, 'params': {…}}; ``params`` win over the keywords.

    Raises KeyError without a target and UsageError for a target that is none of this package's classes.
    """
    if "target" not in config:
        raise KeyError("'target' is missing: a config needs the class to build")
    return instantiate(Target(config["target"], {**kwargs, **(config.get("params") or {})}))


def export_to_trimesh(mesh_output: Any) -> Any:
    """``Latent2MeshOutput`` (or a list of them) -> ``trimesh.Trimesh`` with faces outward; None stays None.

    The input is left as it is, so calling this twice gives the same mesh twice.
    """
    if isinstance(mesh_output, list):
        return [export_to_trimesh(item) for item in mesh_output]
    if mesh_output is None:
        return None
    return trimesh.Trimesh(mesh_output.mesh_v, mesh_output.mesh_f[:, ::-1])


class Hunyuan3DDiTPipeline(ShapePipeline):
    """The stages from pictures to meshes, and the class that old scripts know; see ``ShapePipeline`` for its parts."""

    def prepare_image(self, image: Any) -> dict[str, Any]:
        """One picture, a mapping of views, or a list of either -> the image processor's tensors, batched.

        Returns 'image' (B, 3, S, S) or (B, V, 3, S, S), 'mask' likewise, and for views 'view_idxs'.
        Raises FileNotFoundError for a missing path and ImageError for what is no picture of one object.
        """
        return inputs.prepare(image, self.image_processor)

    def encode_cond(
        self,
        image: Tensor,
        additional_cond_inputs: Mapping[str, Any],
        do_classifier_free_guidance: bool,
        dual_guidance: bool,
    ) -> Any:
        """What the denoiser looks at: nested (B', M, C) tensors, B' = B, or 2B ([with ; without]) with guidance,
        or 3B ([with ; additional only ; without]) with dual guidance."""
        with self._placement.using("conditioner") as conditioner:
            return self._condition(
                conditioner, image, additional_cond_inputs, do_classifier_free_guidance, dual_guidance, self.dtype
            )

    def _condition(
        self, conditioner: Any, image: Tensor, extra: Mapping[str, Any], guide: bool, dual: bool, dtype: torch.dtype
    ) -> Any:
        image = image.to(self.device)
        extra = {name: value.to(self.device) if isinstance(value, Tensor) else value for name, value in extra.items()}
        condition = conditioner(image=image, **extra)
        if not guide:
            return condition
        free = conditioner.unconditional_embedding(image.shape[0], **extra)
        if dual:
            return sampling.join([condition, {**free, "additional": condition["additional"]}, free], dtype)
        return sampling.join([condition, free], dtype)

    def prepare_latents(
        self,
        batch_size: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """The noise to start from, (B, num_latents, embed_dim) of the installed VAE; see ``sampling.draw_noise``."""
        shape = (batch_size, *self._raw_vae.latent_shape)
        if latents is None:
            latents = sampling.draw_noise(shape, generator, device, dtype)
        elif tuple(latents.shape) != shape:
            raise UsageError(f"latents have shape {tuple(latents.shape)}; this model starts from {shape}")
        return latents.to(device=device, dtype=dtype) * getattr(self.scheduler, "init_noise_sigma", 1.0)

    @torch.inference_mode()
    def _export(
        self,
        latents: Tensor,
        output_type: str = "trimesh",
        box_v: float | Sequence[float] = 1.01,
        mc_level: float = 0.0,
        num_chunks: int = 20000,
        octree_resolution: int = 256,
        mc_algo: str | None = "mc",
        enable_pbar: bool = True,
    ) -> Any:
        """Latents as sampled (B, N, C) -> latents, or one mesh per item: trimesh or ``Latent2MeshOutput``.

        An item is None when the field has no surface.
        """
        if output_type == "latent":
            return latents
        options = {
            "bounds": float(box_v) if isinstance(box_v, (int, float)) else box_v,
            "mc_level": mc_level,
            "num_chunks": num_chunks,
            "octree_resolution": octree_resolution,
            "mc_algo": mc_algo,
            "enable_pbar": enable_pbar,
        }
        meshes = [self._mesh_of(item, options) for item in latents.split(1)]
        return export_to_trimesh(meshes) if output_type == "trimesh" else meshes

    def _mesh_of(self, latents: Tensor, options: Mapping[str, Any]) -> Any:
        with stage("decode") as record:

            def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
                return self._decode(latents, dtype, self._chunked(options))

            grid = self._attempt("decode", partial(first_finite, "features of the shape", self.dtype, record, run))
        with stage("extract") as record:
            [mesh] = self._raw_vae.surface_extractor(grid, **options)
            if mesh is not None:
                record.figures.update(vertices=len(mesh.mesh_v), faces=len(mesh.mesh_f))
        return mesh

    def _chunked(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The decoding options with the plan's numbers of points at a time, where a plan says them."""
        planned = self._engine.stage_plan("decode") if self._engine is not None else None
        if planned is None or planned.chunk is None:
            return options
        if planned.tile_points is not None:
            current().figures["tile_points"] = planned.tile_points
        return {**options, "num_chunks": planned.chunk, "tile_points": planned.tile_points}

    def _decode(self, latents: Tensor, dtype: torch.dtype, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """(features to check, grid). The grid is not checked: NaN is how decoders mark what they left out."""
        with self._placement.using("vae", dtype) as vae:
            features = vae(1.0 / self._raw_vae.scale_factor * latents.to(dtype))
            if not bool(torch.isfinite(features).all()):
                return features, features
            return features, self._raw_vae.volume_decoder(features, self._raw_vae.geo_decoder, **options)

    def _check_call(self, extra: Mapping[str, Any], timesteps: Any, eta: float, steps: int, resolution: int) -> None:
        known = [name for name in inspect.signature(type(self).__call__).parameters if name not in {"self", "kwargs"}]
        inputs.drop_request_keywords(extra, known, type(self).__name__)
        if timesteps is not None or eta:
            warnings.warn("timesteps and eta have no effect on this pipeline; use sigmas", UserWarning, stacklevel=3)
        inputs.require_count(steps, "num_inference_steps")
        inputs.require_count(resolution, "octree_resolution", 2)

    def _conditions(self, image: Any, guide: bool, dual: bool) -> tuple[Any, int]:
        """(condition, batch size); the stage 'condition'."""
        with stage("condition") as record:
            prepared = self.prepare_image(image)
            pictures = prepared.pop("image")

            def run(dtype: torch.dtype) -> tuple[Tensor, Any]:
                with self._placement.using("conditioner", dtype) as conditioner:
                    condition = self._condition(conditioner, pictures, prepared, guide, dual, dtype)
                return condition["main"], condition

            encode = partial(first_finite, "encoded picture", self.dtype, record, run)
            return self._attempt("condition", encode), len(pictures)

    def _latents(
        self,
        velocity: Callable[[nn.Module, torch.dtype], sampling.Velocity],
        noise: Tensor,
        times: Callable[[], None],
        callback: sampling.Callback | None,
        callback_steps: int | None,
    ) -> Tensor:
        """Noise -> latents in the pipeline's dtype; the stage 'denoise'.

        velocity: makes the function to follow from the network and the dtype it runs in; times: sets the schedule.
        """
        with stage("denoise") as record:

            def run(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
                times()
                why = "guidance halves one after the other" if self.cfg_split else ""
                record.decide("cfg_split", self.cfg_split, why)
                with (
                    self._placement.using("model", dtype) as model,
                    replayed(velocity(model, dtype), model, self.device, len(self.scheduler.timesteps)) as follow,
                ):
                    latents = sampling.denoise(
                        follow,
                        self.scheduler,
                        noise.to(dtype),
                        callback=callback,
                        callback_steps=callback_steps or 1,
                    )
                return latents, latents.to(self.dtype)

            return self._attempt("denoise", partial(first_finite, "latents", self.dtype, record, run))

    def __call__(
        self,
        image: Any = None,
        num_inference_steps: int = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        eta: float = 0.0,
        guidance_scale: float = 7.5,
        dual_guidance_scale: float = 10.5,
        dual_guidance: bool = True,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        box_v: float | Sequence[float] = 1.01,
        octree_resolution: int = 384,
        mc_level: float = -1 / 512,
        num_chunks: int = 8000,
        mc_algo: str | None = None,
        output_type: str | None = "trimesh",
        enable_pbar: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Not available: this class is for diffusion schedulers (DDIM, LCM), which no published model uses.

        Raises UsageError that names the class to use.
        """
        raise UsageError(
            f"{type(self).__name__} samples with diffusion schedulers, and {type(self.scheduler).__name__} is none; "
            "load the same model with Hunyuan3DDiTFlowMatchingPipeline"
        )


class Hunyuan3DDiTFlowMatchingPipeline(Hunyuan3DDiTPipeline):
    """The pipeline of all published shape models: latents follow a velocity from noise (σ = 0) to data (σ = 1)."""

    @torch.inference_mode()
    def __call__(  # type: ignore[override]  # the published signatures differ
        self,
        image: Any = None,
        num_inference_steps: int = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | np.ndarray | None = None,
        eta: float = 0.0,
        guidance_scale: float = 5.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        box_v: float | Sequence[float] = 1.01,
        octree_resolution: int = 384,
        mc_level: float = 0.0,
        mc_algo: str | None = None,
        num_chunks: int = 8000,
        output_type: str | None = "trimesh",
        enable_pbar: bool = True,
        *,
        callback: sampling.Callback | None = None,
        callback_steps: int | None = None,
        latents: Tensor | None = None,
        seed: int | Sequence[int] | None = None,
        cfg_split: bool | None = None,
        cancel_event: CancelEvent | None = None,
        **kwargs: Any,
    ) -> Any:
        """Pictures to meshes.

        image: one picture (path, PIL image or array), one mapping of views for a multi-view model, or a list of them.
        sigmas: own flow times, ascending in [0, 1], instead of num_inference_steps equal steps.
        guidance_scale: at 0 and above the network also runs without the picture (twice the work); below 0 it does
        not. Distilled models take it as an input.
        generator, seed: one, or one per picture. latents: noise to start from, (B, num_latents, embed_dim).
        box_v: half the side of the cube that is searched, or (xmin, ymin, zmin, xmax, ymax, zmax).
        octree_resolution: cells per axis; mc_level: the field's value at the surface; num_chunks: points at a time.
        mc_algo: 'mc' or 'dmc', also for later calls. cfg_split: run the two halves of guidance one after the other.
        output_type: 'trimesh'; 'mesh' for ``Latent2MeshOutput``; 'latent' for (B, num_latents, embed_dim) as sampled.
        Returns a list with one entry per picture, None where the field has no surface.
        enable_pbar is accepted: progress is reported through ``hy3dgen.runtime.stages``.
        Raises ImageError, UsageError, NumericalError, Cancelled, and TypeError for an unknown keyword.
        """
        self._check_call(kwargs, timesteps, eta, num_inference_steps, octree_resolution)
        draws = inputs.generators(generator, seed)
        if cfg_split is not None:
            self.cfg_split = cfg_split
        self.set_surface_extractor(mc_algo)
        distilled = getattr(self._placement.raw("model"), "guidance_embed", False) is True
        guide = guidance_scale >= 0 and not distilled
        schedule = np.linspace(0, 1, num_inference_steps) if sigmas is None else np.asarray(sigmas, dtype=np.float64)

        with cancelling(cancel_event):
            condition, batch = self._conditions(image, guide, False)
            noise = self.prepare_latents(batch, self.dtype, self.device, draws, latents)

            def velocity(model: nn.Module, dtype: torch.dtype) -> sampling.Velocity:
                guidance = torch.full((batch,), guidance_scale, device=self.device, dtype=dtype) if distilled else None
                contexts = sampling.cast(condition, dtype) if dtype != self.dtype else condition
                prepared = sampling.prepared(model, contexts, guided=guide)

                def network(points: Tensor, time: Tensor, contexts: Any) -> Tensor:
                    return model(points, time, contexts, guidance=guidance)

                if not guide:
                    return sampling.unguided(network, prepared)
                return sampling.guided(network, prepared, guidance_scale, split=self.cfg_split)

            def set_times() -> None:
                retrieve_timesteps(self.scheduler, device=self.device, sigmas=schedule)

            sampled = self._latents(velocity, noise, set_times, callback, callback_steps)
            return self._export(
                sampled,
                output_type or "mesh",
                box_v,
                mc_level,
                num_chunks,
                octree_resolution,
                mc_algo,
                enable_pbar,
            )
