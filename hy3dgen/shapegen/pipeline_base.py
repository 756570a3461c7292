"""What a shape pipeline is made of: its five parts, loading them, and where the networks are while they are used.

Nothing here generates anything; ``pipelines`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import nn

from hy3dgen.errors import UsageError, WeightsNotFoundError
from hy3dgen.runtime import compile as compiling
from hy3dgen.runtime.device import pick_device, pick_dtype
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.plan import Plan
from hy3dgen.runtime.stages import stage
from hy3dgen.shapegen import inputs
from hy3dgen.shapegen.loading import NETWORKS, load_parts, load_vae
from hy3dgen.shapegen.placement import Placement, Placer
from hy3dgen.weights.config import PIPELINE_SECTIONS
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import DEFAULT_SUBFOLDER, locate_model, model_roots

T = TypeVar("T")

# Model name -> (repository, folder with the small decoder, folder with the full one).
FLASHVDM_VAES = {
    "Hunyuan3D-2": ("tencent/Hunyuan3D-2", "hunyuan3d-vae-v2-0-turbo", "hunyuan3d-vae-v2-0"),
    "Hunyuan3D-2mv": ("tencent/Hunyuan3D-2", "hunyuan3d-vae-v2-0-turbo", "hunyuan3d-vae-v2-0"),
    "Hunyuan3D-2mini": ("tencent/Hunyuan3D-2mini", "hunyuan3d-vae-v2-mini-turbo", "hunyuan3d-vae-v2-mini"),
}


class ShapePipeline:
    """The parts of a shape model, and where and how they run.

    vae, model, conditioner: networks; scheduler, image_processor: objects of this package or alike.
    device, dtype: None chooses by machine (CUDA, MPS, CPU; float16, on the CPU float32).
    """

    model_cpu_offload_seq = "conditioner->model->vae"
    _exclude_from_cpu_offload: tuple[str, ...] = ()

    def __init__(
        self,
        vae: nn.Module,
        model: nn.Module,
        scheduler: Any,
        conditioner: nn.Module,
        image_processor: Any,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        self._setup(
            {"vae": vae, "model": model, "conditioner": conditioner},
            scheduler,
            image_processor,
            device,
            dtype,
            kwargs,
        )

    def _setup(
        self,
        networks: Mapping[str, nn.Module],
        scheduler: Any,
        image_processor: Any,
        device: str | torch.device | None,
        dtype: str | torch.dtype | None,
        kwargs: dict[str, Any],
        in_file: Sequence[str] = (),
    ) -> None:
        self.scheduler, self.image_processor, self.kwargs = scheduler, image_processor, kwargs
        self._placement = Placement({}, from_file=False)
        for name, network in networks.items():
            self._placement.put(name, network, from_file=name in in_file)
        self.device = pick_device(device)
        self.dtype = pick_dtype(self.device, dtype)
        self.cfg_split = False
        self._engine: Engine | None = None
        self._placement.move(self.device, self.dtype)

    # Reading a network brings it to the device, as if it had been loaded at once.
    vae = property(lambda self: self._placement.ready("vae"), lambda self, network: self._placement.put("vae", network))
    model = property(
        lambda self: self._placement.ready("model"), lambda self, network: self._placement.put("model", network)
    )
    conditioner = property(
        lambda self: self._placement.ready("conditioner"),
        lambda self, network: self._placement.put("conditioner", network),
    )

    @property
    def components(self) -> dict[str, Any]:
        """All five parts by name; the networks wherever they are."""
        networks = {name: self._placement.raw(name) for name in NETWORKS}
        return {**networks, "scheduler": self.scheduler, "image_processor": self.image_processor}

    # ---- loading -------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        model_path: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        use_safetensors: bool | None = True,
        variant: str | None = "fp16",
        subfolder: str = DEFAULT_SUBFOLDER,
        **kwargs: Any,
    ) -> Self:
        """Load a model by name ('nano', '2mini', …), folder or hub repository; see ``weights.locate.locate_model``.

        kwargs: parts to use instead of the checkpoint's (vae, model, conditioner, scheduler, image_processor);
        offline: bool; download: ``DownloadOptions``, which says who accepts the owner's licence.
        Raises WeightsNotFoundError, WeightsDamagedError, LicenceError, DownloadError.
        """
        offline: bool | None = kwargs.pop("offline", None)
        download: DownloadOptions | None = kwargs.pop("download", None)
        with stage("load"):
            found = locate_model(
                model_path,
                subfolder,
                variant=variant,
                use_safetensors=use_safetensors,
                offline=offline,
                download=download,
            )
        source = {
            "model_path": model_path,
            "subfolder": subfolder,
            "use_safetensors": use_safetensors,
            "variant": variant,
            "dtype": dtype,
            "device": device,
        }
        return cls.from_single_file(
            str(found.weights), str(found.config), device=device, dtype=dtype, from_pretrained_kwargs=source, **kwargs
        )

    @classmethod
    def from_single_file(
        cls,
        ckpt_path: str,
        config_path: str,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        use_safetensors: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load from a weight file and its config. use_safetensors: take the ``.safetensors`` beside a ``.ckpt`` path.

        kwargs: parts to use instead of the checkpoint's. Raises WeightsNotFoundError and WeightsDamagedError.
        """
        inputs.refuse_unknown(kwargs, (*PIPELINE_SECTIONS, "from_pretrained_kwargs"), "from_pretrained")
        weights = Path(ckpt_path).expanduser()
        if use_safetensors and weights.suffix == ".ckpt":
            weights = weights.with_suffix(".safetensors")
        config = Path(config_path).expanduser()
        for path in (weights, config):
            if not path.is_file():
                raise WeightsNotFoundError(f"model file {path} does not exist")
        given = {name: kwargs.pop(name) for name in PIPELINE_SECTIONS if name in kwargs}
        with stage("load"):
            parts = load_parts(config, weights, given)
            pipeline = cls.__new__(cls)
            pipeline._setup(
                {name: parts[name] for name in NETWORKS},
                parts["scheduler"],
                parts["image_processor"],
                device,
                dtype,
                kwargs,
                in_file=[name for name in NETWORKS if name not in given],
            )
        return pipeline

    # ---- where and how it runs -------------------------------------------------------------------------------------

    def to(
        self, device: str | torch.device | torch.dtype | None = None, dtype: str | torch.dtype | None = None
    ) -> Self:
        """Run on another device and, or, in another dtype from now on. Returns the pipeline itself."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if device is not None:
            self.device = pick_device(device)
        if dtype is not None:
            self.dtype = pick_dtype(self.device, dtype)
        self._placement.move(self.device, self.dtype)
        return self

    def compile(self) -> None:
        """Compile the denoiser's blocks: slow first run, faster later ones; works with streamed weights, too.

        Raises MissingExtraError where torch.compile cannot work.
        """
        compiling.ensure_available(self.device)
        compiling.keep_cache(model_roots()[-1])
        compiling.compile_blocks(self._placement.raw("model"))

    @property
    def _execution_device(self) -> torch.device:
        return self.device

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: str | torch.device | None = None) -> None:
        """Keep a network on the device only while its stage runs: the peak is the largest one, not their sum.

        gpu_id: index of the accelerator; device: the accelerator. Raises UsageError when both name an index.
        """
        chosen = torch.device(device) if device is not None else self.device
        if gpu_id is not None:
            if device is not None and chosen.index is not None:
                raise UsageError(f"gpu_id={gpu_id} and device='{chosen}' both name an index; give one of them")
            chosen = torch.device(chosen.type, gpu_id)
        self._placement.release()
        self._placement.by_stage = True
        self.to(chosen)

    def maybe_free_model_hooks(self) -> None:
        """With offloading: take every network off the device. Else nothing."""
        if self._placement.by_stage:
            self._placement.release()

    def use_placer(self, placer: Placer | None) -> None:
        """Let a memory engine place the networks, or, with None, do it here again."""
        self._placement.release()
        self._placement.placer = placer

    def use_engine(self, engine: Engine | None) -> None:
        """Run by a memory plan: its placements, its levers, and a leaner one where memory runs out. None: without."""
        self._engine = engine
        if engine is None:
            self.use_placer(None)
            return
        engine.changed.append(self._follow)
        self._follow(engine.plan)

    def _follow(self, plan: Plan) -> None:
        """Take over what ``plan`` says of the shape stages."""
        denoise = plan.stage("denoise")
        if denoise is not None:
            self.cfg_split = denoise.cfg_split
        placer = None if plan.all_resident else self._engine
        if placer is not self._placement.placer:
            self.use_placer(placer)

    def _attempt(self, stage_name: str, run: Callable[[], T]) -> T:
        """``run()``; with an engine again, under a leaner plan, while the device's memory runs out."""
        return run() if self._engine is None else self._engine.attempts(stage_name, lambda _: run())

    def set_surface_extractor(self, mc_algo: str | None) -> None:
        """Extract surfaces by 'mc' or 'dmc' from now on; None changes nothing. Raises UsageError for another name."""
        if mc_algo is None:
            return
        from hy3dgen.shapegen.models.autoencoders.surface_extractors import SurfaceExtractors

        if mc_algo not in SurfaceExtractors:
            raise UsageError(f"unknown surface extraction '{mc_algo}'; use one of {', '.join(SurfaceExtractors)}")
        vae = self._raw_vae
        if not isinstance(vae.surface_extractor, SurfaceExtractors[mc_algo]):
            vae.surface_extractor = SurfaceExtractors[mc_algo]()

    def set_decoder(self, name: str, *, topk_mode: str = "mean") -> None:
        """Choose how the field is evaluated: 'dense', 'hierarchical' (the same mesh, faster) or 'flashvdm' (lossy).

        topk_mode: 'mean' or 'merge', for flashvdm. Raises UsageError for another name.
        """
        from hy3dgen.shapegen.models.autoencoders import volume_decoders

        makers: dict[str, Callable[[], Any]] = {
            "dense": volume_decoders.VanillaVolumeDecoder,
            "hierarchical": lambda: volume_decoders.HierarchicalVolumeDecoding(band="lean"),
            "flashvdm": lambda: volume_decoders.FlashVDMVolumeDecoding(topk_mode),
        }
        if name not in makers:
            raise UsageError(f"unknown decoder '{name}'; use one of {', '.join(makers)}")
        self._raw_vae.geo_decoder.set_default_cross_attention_processor()
        self._raw_vae.volume_decoder = makers[name]()

    def enable_flashvdm(
        self,
        enabled: bool = True,
        adaptive_kv_selection: bool = True,
        topk_mode: str = "mean",
        mc_algo: str = "mc",
        replace_vae: bool = True,
    ) -> None:
        """Decode with FlashVDM, or stop doing so.

        replace_vae: for the published models also load the VAE with the small (or, when disabling, the full)
        geometry decoder, in this pipeline's dtype. Other models, local folders included, keep theirs.
        """
        source = self.kwargs.get("from_pretrained_kwargs") or {}
        name = re.split(r"[/\\]", str(source.get("model_path", "")).rstrip("/\\"))[-1]
        if replace_vae and name in FLASHVDM_VAES:
            repo, small, full = FLASHVDM_VAES[name]
            self._replace_vae(repo, small if enabled else full, source)
        self._raw_vae.enable_flashvdm_decoder(
            enabled=enabled, adaptive_kv_selection=adaptive_kv_selection, topk_mode=topk_mode, mc_algo=mc_algo
        )

    def _replace_vae(self, repo: str, subfolder: str, source: Mapping[str, Any]) -> None:
        from hy3dgen.shapegen.models import ShapeVAE

        found = locate_model(
            repo, subfolder, variant=source.get("variant", "fp16"), use_safetensors=source.get("use_safetensors", True)
        )
        self._placement.put("vae", load_vae(ShapeVAE, found.weights, found.config), from_file=True)

    @property
    def _raw_vae(self) -> Any:
        return self._placement.raw("vae")
