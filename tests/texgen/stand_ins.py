"""Texture stages around networks that a test brings itself, without a checkpoint folder."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from hy3dgen.texgen.residency import OnDemand
from hy3dgen.texgen.utils.dehighlight_utils import SEED, Light_Shadow_Remover
from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net


class NoVae:
    """A VAE whose switches can be set and that does nothing."""

    def enable_slicing(self) -> None: ...

    def disable_slicing(self) -> None: ...

    def disable_tiling(self) -> None: ...


def settings(**changes: Any) -> SimpleNamespace:
    """What the two stages read from a config, at its defaults."""
    return SimpleNamespace(
        **{
            "device": "cpu",
            "dtype": None,
            "delight_inference_steps": 50,
            "multiview_inference_steps": 30,
            "vae_slicing": True,
            "vae_tiling": None,
            "vae_strips": False,
            "attention_slicing": None,
            "split_guidance": False,
            "split_feed_forward": False,
            **changes,
        }
    )


def remover_of(
    pipeline: Any, *, size_px: int, steps: int = 50, prompt_embeds: torch.Tensor | None = None, seed: int = SEED
) -> Light_Shadow_Remover:
    """The delight stage around ``pipeline``."""
    remover = Light_Shadow_Remover.__new__(Light_Shadow_Remover)
    remover.config = settings(delight_inference_steps=steps)
    remover.device = torch.device("cpu")
    remover.seed = seed
    remover.image_size = size_px
    remover.prompt_embeds = torch.zeros(1, 77, 16) if prompt_embeds is None else prompt_embeds
    remover.pipeline = pipeline
    if not hasattr(pipeline, "vae"):
        pipeline.vae = NoVae()
    if not hasattr(pipeline, "residency"):
        pipeline.residency = OnDemand(torch.device("cpu"), torch.float32)
    return remover


def painter_of(pipeline: Any, *, size_px: int, steps: int = 30) -> Multiview_Diffusion_Net:
    """The paint stage around ``pipeline``."""
    painter = Multiview_Diffusion_Net.__new__(Multiview_Diffusion_Net)
    painter.config = settings(multiview_inference_steps=steps)
    painter.device = torch.device("cpu")
    painter.seed = 0
    painter.view_size = size_px
    painter.pipeline = pipeline
    if not hasattr(pipeline, "vae"):
        pipeline.vae = NoVae()
    if not hasattr(pipeline, "residency"):
        pipeline.residency = OnDemand(torch.device("cpu"), torch.float32)
    return painter
