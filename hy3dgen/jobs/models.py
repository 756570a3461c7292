"""The models of a run: chosen and found before any work, loaded once, used by every task."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hy3dgen.images.matting import Nets
from hy3dgen.jobs import memory, texture, warming
from hy3dgen.jobs.choice import choose, is_here, num_views, with_many_views
from hy3dgen.jobs.options import JobOptions, with_scenario
from hy3dgen.reports.run import WeightFile
from hy3dgen.runtime.attention import resolve_backend
from hy3dgen.runtime.compile import ensure_available as ensure_compiler
from hy3dgen.runtime.compile import keep_cache
from hy3dgen.runtime.device import CPU, CUDA, describe, pick_device, pick_dtype
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.files import sha256_of_file
from hy3dgen.runtime.machine import prepare_allocator
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.plan import Plan
from hy3dgen.runtime.readahead import ReadAhead
from hy3dgen.runtime.stages import StageRecord, stage
from hy3dgen.runtime.warm import WarmUp, warmed
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline
from hy3dgen.weights import catalogue
from hy3dgen.weights.catalogue import BUILT_IN, CatalogueEntry, Defaults
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import FoundModel, find_model, is_offline, locate_model


class Models:
    """What the options need, in one place: device, dtype, the shape model and its defaults.

    Making one checks everything that can be checked without loading: device, names, weights, texture. Raises
    UsageError, WeightsError or DownloadError.

    options: what the user asked for
    many_views: several pictures of one object will come, so 'auto' prefers a model that takes them, and a model with
        a second config for them runs by that one
    has_shape: a shape will be made; False when every mesh is given
    keep_background: keep the CPU's background network open for the next picture, where several will come
    download: what to do before and during a download of a model that was asked for by name
    """

    def __init__(
        self,
        options: JobOptions,
        *,
        many_views: bool = False,
        has_shape: bool = True,
        keep_background: bool = False,
        download: DownloadOptions | None = None,
    ) -> None:
        self.device = pick_device(options.device)
        if self.device.type == CUDA:
            prepare_allocator()
        self.dtype = pick_dtype(self.device, options.dtype)
        self.asked = options
        options = with_scenario(options)
        resolve_backend(options.attention, self.device)
        if options.compile:
            ensure_compiler(self.device)
            keep_cache(Path("~/.cache/hy3dgen").expanduser())
        self.name = choose(options.model, many_views=many_views)
        self.entry = catalogue.find(self.name)
        self.options = filled(options, self.entry).with_(model=self.name)
        texture.ensure_available(self.options, download)
        inside = with_many_views(self.name) if many_views else None
        self.found: FoundModel = inside or locate_model(self.name, offline=options.offline or None, download=download)
        self.ceiling = None if options.scenario is not None else memory.ceiling_for(options.vram, self.device)
        self.engine = self._engine(many_views, has_shape)
        self.background = Nets(offline=is_offline(options.offline or None), keep_open=keep_background)
        self._pipeline: Any = None
        self._drawer: Any = None
        self._warm_up: WarmUp | None = None
        self._reading: ReadAhead | None = None

    @cached_property
    def takes_many_views(self) -> bool:
        """Whether the shape model, as it was found, is conditioned on several views at once."""
        return num_views(self.name, self.found) > 1

    @property
    def is_built_in(self) -> bool:
        """Whether this is the package's own small model."""
        return self.name == BUILT_IN

    def _engine(self, many_views: bool, has_shape: bool) -> Engine | None:
        """What brings the memory plan about; None where there is nothing to plan. Raises NoPlanError."""
        if self.ceiling is None:
            return None
        plan = memory.plan_run(
            self.options,
            self.name,
            self.ceiling,
            found=self.found,
            num_views=num_views(self.name, self.found) if many_views else 1,
            has_shape=has_shape,
            dtype=self.dtype,
            attention=self.compute()["attention"],
        )
        memory.hold_to(plan, self.ceiling, self.device)
        return Engine(plan, self.device)

    def memory_report(self, stages: Sequence[StageRecord]) -> dict[str, Any] | None:
        """The plan as it ended, the peak, and whether the ceiling held; None without a plan."""
        if self.engine is None or self.ceiling is None:
            return None
        return memory.as_report(self.engine.plan, self.ceiling, stages)

    def forget(self) -> None:
        """Give back what the networks hold on the device; they load again when they are needed."""
        for beside in (self._warm_up, self._reading):
            if beside is not None:
                beside.stop()
        self._pipeline = self._drawer = None
        release_cached(self.device, collect=True)

    def take_over(self, earlier: Models) -> None:
        """Use what ``earlier`` has loaded, where it is the same, so that the next job does not load it again.

        ``earlier`` must not be used after that; networks that do not fit are let go of.
        """
        if self._pipeline is None and earlier._pipeline is not None and self._same_networks(earlier):
            self._pipeline, earlier._pipeline = earlier._pipeline, None
            self._pipeline.set_decoder(str(self.options.decoder))
            self._pipeline.use_engine(self.engine)
        if self._drawer is None and self.device == earlier.device:
            self._drawer, earlier._drawer = earlier._drawer, None
        self.background.take_over(earlier.background)
        earlier.forget()

    def _same_networks(self, earlier: Models) -> bool:
        """Whether a pipeline loaded for ``earlier`` is the one that would be loaded now."""
        # FlashVDM brings a decoder of its own for some models, and compiled networks stay compiled.
        flash = "flashvdm" in (self.options.decoder, earlier.options.decoder)
        return (
            self.found == earlier.found
            and (self.device, self.dtype) == (earlier.device, earlier.dtype)
            and self.options.compile == earlier.options.compile
            and (not flash or self.options.decoder == earlier.options.decoder)
        )

    def shape_pipeline(self) -> Any:
        """The shape pipeline, loaded at the first call (stage 'load') and kept."""
        if self._pipeline is None:
            with warmed(self.device, warming.for_shapes(self.options, self.device, self.dtype)):
                self._pipeline = self._load()
            if self.device.type != CPU:
                parts = self._pipeline.components
                self._reading = ReadAhead([parts[name] for name in ("conditioner", "model", "vae")]).start()
        return self._pipeline

    def warm_colours(self) -> None:
        """Begin to wake up what colouring needs, beside the stages that work on the host."""
        if self._warm_up is None:
            plan = self.engine.plan if self.engine is not None else None
            self._warm_up = WarmUp(self.device, warming.for_colours(self.options, plan, self.device, self.dtype))
            self._warm_up.start()

    def await_colours(self) -> None:
        """Wait until that is done, which is part of loading (stage 'load')."""
        if self._warm_up is not None and self._warm_up.is_running:
            with stage("load"):
                self._warm_up.wait()

    def weight_files(self) -> list[WeightFile]:
        """The weight files in use, with their hashes."""
        return list(self._weight_files)

    def identity(self) -> dict[str, str]:
        """What of the models decides a result: the weights by their hash, and how they are computed."""
        return {**{file.name: file.sha256 for file in self._weight_files}, **self.compute()}

    def shape_identity(self) -> dict[str, str]:
        """What of them decides the shape: as ``identity`` without the texture models."""
        together = {"views": "together"} if self.takes_many_views else {}  # one file of weights may serve both ways
        return {"weights": self._weight_files[0].sha256, **self.compute(), **together}

    def draw(self, words: str, seed: int) -> Any:
        """A picture of these words, RGB. Raises WeightsNotFoundError when the text-to-image weights are not here.

        They are never downloaded unasked: they take many gigabytes.
        """
        if self._drawer is None:
            from hy3dgen.text2image import HunyuanDiTPipeline

            with stage("load"):
                self._drawer = HunyuanDiTPipeline(device=self.device, offline=True)
        with stage("denoise"):
            return self._drawer(words, seed=seed)

    def compute(self) -> dict[str, str]:
        """Device kind, number format and attention kernel, as they stand in the report."""
        asked = self.options.attention
        chosen = asked if asked != "auto" else os.environ.get("ATTN_BACKEND") or "auto"
        return {
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": resolve_backend(chosen, self.device),
        }

    def machine(self) -> dict[str, Any]:
        """What the report says about where this ran."""
        return {
            "device": describe(self.device),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }

    @cached_property
    def _weight_files(self) -> tuple[WeightFile, ...]:
        shape = self.found.weights
        paths = {f"{shape.parent.name}/{shape.name}": shape, **texture.weight_paths(self.options)}
        return tuple(WeightFile(name, weights_sha256(p), p.stat().st_size) for name, p in paths.items())

    def _load(self) -> Any:
        entry, found = self.entry, self.found
        # FlashVDM looks here for the repository whose small decoder belongs to this model.
        source = {"model_path": entry.repo, "subfolder": entry.subfolder} if entry is not None and entry.repo else {}
        pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_single_file(
            str(found.weights), str(found.config), device=self.device, dtype=self.dtype, from_pretrained_kwargs=source
        )
        pipeline.set_decoder(str(self.options.decoder))
        pipeline.use_engine(self.engine)
        if self.options.compile:
            pipeline.compile()
        return pipeline


def plan_without_weights(options: JobOptions, *, many_views: bool = False, has_shape: bool = True) -> Plan:
    """What ``--plan`` shows: the plan for this machine's GPU, or, without one, for a card with ``--vram`` GiB.

    many_views: pictures of all four sides will come. Raises UsageError and NoPlanError.
    """
    device = pick_device(options.device)
    ceiling = memory.ceiling_for(options.vram, device) or memory.imagined_ceiling(options.vram)
    name = choose(options.model, many_views=many_views)
    entry = catalogue.find(name)
    return memory.plan_run(
        filled(options, entry),
        name,
        ceiling,
        found=None if entry is not None else find_model(name),
        num_views=num_views(name) if many_views else 1,
        has_shape=has_shape,
        dtype=pick_dtype(torch.device(ceiling.machine.kind), options.dtype),
    )


def filled(options: JobOptions, entry: CatalogueEntry | None) -> JobOptions:
    """The options with the model's defaults; a model that the catalogue does not know has the official ones."""
    defaults = entry.defaults if entry is not None else Defaults()
    options = options.filled(
        {name: getattr(defaults, name) for name in ("steps", "guidance", "octree_resolution", "decoder", "faces")}
    )
    if options.texture != "auto":
        return options
    # Official texture weights that are not here are not worth stopping for when nobody asked for them.
    here = is_here(defaults.texture, delight=options.delight)
    return options.with_(texture=defaults.texture if here else "project")


def weights_sha256(path: Path) -> str:
    """The hash of a weight file; the Hugging Face cache already names large files by it."""
    recorded = path.resolve().name
    if len(recorded) == 64 and set(recorded) <= set("0123456789abcdef"):
        return recorded
    return sha256_of_file(path)
