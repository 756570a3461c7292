"""A ShapeVAE on its own, from its folder or files to the device: what ``ShapeVAE.from_pretrained`` does.

The networks' room knows neither files nor devices; this module stands between it and ``hy3dgen.weights``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from hy3dgen.runtime.device import pick_device, pick_dtype
from hy3dgen.shapegen.loading import load_vae
from hy3dgen.weights.locate import locate_model

VaeT = TypeVar("VaeT", bound=nn.Module)


def pretrained(
    cls: type[VaeT],
    model_path: str | os.PathLike[str],
    *,
    subfolder: str | None,
    variant: str | None,
    use_safetensors: bool | None,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    **overrides: Any,
) -> VaeT:
    """Find, or fetch, a VAE by name, folder or hub repository and load it; see ``weights.locate.locate_model``."""
    found = locate_model(model_path, subfolder, variant=variant, use_safetensors=use_safetensors)
    return from_files(cls, found.weights, found.config, device=device, dtype=dtype, **overrides)


def from_files(
    cls: type[VaeT],
    weights: str | os.PathLike[str],
    config: str | os.PathLike[str],
    *,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    **overrides: Any,
) -> VaeT:
    """Load a VAE strictly, in evaluation mode, onto the device. overrides: constructor arguments over the config's."""
    place = pick_device(device)
    vae = load_vae(cls, Path(weights), Path(config), dtype=pick_dtype(place, dtype), **overrides)
    return vae.to(place)
