"""The models of a run: chosen and found before any work, loaded once, used by every task."""

from __future__ import annotations

import os
import platform
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hy3dgen.jobs import texture
from hy3dgen.jobs.options import JobOptions
from hy3dgen.reports.run import WeightFile
from hy3dgen.runtime.attention import resolve_backend
from hy3dgen.runtime.device import describe, pick_device, pick_dtype
from hy3dgen.runtime.files import sha256_of_file
from hy3dgen.runtime.stages import stage
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline
from hy3dgen.weights import catalogue, inventory
from hy3dgen.weights.catalogue import CatalogueEntry, Defaults
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.locate import FoundModel, locate_model

BUILT_IN = "nano"
# 'auto' takes the first of these that is on this machine; it never downloads.
AUTO_ORDER = ("2", "2-fast", "2-turbo", "2.1", "2mini", "2mini-fast", "2mini-turbo")
AUTO_ORDER_MANY_VIEWS = ("2mv", "2mv-fast", "2mv-turbo")


class Models:
    """What the options need, in one place: device, dtype, the shape model and its defaults.

    Making one checks everything that can be checked without loading: device, names, weights, texture. Raises
    UsageError, WeightsError or DownloadError.

    options: what the user asked for
    many_views: several pictures of one object will come, so 'auto' prefers a model that takes them
    download: what to do before and during a download of a model that was asked for by name
    """

    def __init__(
        self, options: JobOptions, *, many_views: bool = False, download: DownloadOptions | None = None
    ) -> None:
        self.device = pick_device(options.device)
        self.dtype = pick_dtype(self.device, options.dtype)
        resolve_backend(options.attention, self.device)
        self.asked = options
        self.name = choose(options.model, many_views=many_views)
        self.entry = catalogue.find(self.name)
        self.options = _filled(options, self.entry).with_(model=self.name)
        texture.ensure_available(self.options, download)
        self.found: FoundModel = locate_model(self.name, offline=options.offline or None, download=download)
        self._pipeline: Any = None
        self._drawer: Any = None

    @property
    def takes_many_views(self) -> bool:
        """Whether the shape model is conditioned on several views at once."""
        return self.entry is not None and self.entry.num_views > 1

    @property
    def is_built_in(self) -> bool:
        """Whether this is the package's own small model."""
        return self.name == BUILT_IN

    def shape_pipeline(self) -> Any:
        """The shape pipeline, loaded at the first call (stage 'load') and kept."""
        if self._pipeline is None:
            self._pipeline = self._load()
        return self._pipeline

    def weight_files(self) -> list[WeightFile]:
        """The weight files in use, with their hashes."""
        return list(self._weight_files)

    def identity(self) -> dict[str, str]:
        """What of the models decides a result: the weights by their hash, and how they are computed."""
        return {**{file.name: file.sha256 for file in self._weight_files}, **self.compute()}

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
        paths = [self.found.weights, *texture.weight_paths(self.options)]
        return tuple(WeightFile(f"{p.parent.name}/{p.name}", weights_sha256(p), p.stat().st_size) for p in paths)

    def _load(self) -> Any:
        entry, found = self.entry, self.found
        # FlashVDM looks here for the repository whose small decoder belongs to this model.
        source = {"model_path": entry.repo, "subfolder": entry.subfolder} if entry is not None and entry.repo else {}
        pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_single_file(
            str(found.weights), str(found.config), device=self.device, dtype=self.dtype, from_pretrained_kwargs=source
        )
        pipeline.set_decoder(str(self.options.decoder))
        return pipeline


def choose(model: str, *, many_views: bool = False) -> str:
    """What to load: 'auto' becomes the best official model on this machine, else the built-in one."""
    if model != "auto":
        return str(Path(model).expanduser()) if model.startswith("~") else model
    order = (*AUTO_ORDER_MANY_VIEWS, *AUTO_ORDER) if many_views else AUTO_ORDER
    return next((name for name in order if inventory.is_here(name)), BUILT_IN)


def _filled(options: JobOptions, entry: CatalogueEntry | None) -> JobOptions:
    """The options with the model's defaults; a model that the catalogue does not know has the official ones."""
    defaults = entry.defaults if entry is not None else Defaults()
    filled = options.filled(
        {name: getattr(defaults, name) for name in ("steps", "guidance", "octree_resolution", "decoder", "faces")}
    )
    if filled.texture != "auto":
        return filled
    # Official texture weights that are not here are not worth stopping for when nobody asked for them.
    here = texture.is_here(defaults.texture, delight=options.delight)
    return filled.with_(texture=defaults.texture if here else "project")


def weights_sha256(path: Path) -> str:
    """The hash of a weight file; the Hugging Face cache already names large files by it."""
    recorded = path.resolve().name
    if len(recorded) == 64 and set(recorded) <= set("0123456789abcdef"):
        return recorded
    return sha256_of_file(path)
