"""From a checkpoint's two files to the parts of a pipeline, and from a VAE folder to a VAE.

Weights stay in the mapped file until their stage needs them; nothing here places a network on a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from hy3dgen.errors import UsageError, WeightsDamagedError
from hy3dgen.shapegen.registry import resolve
from hy3dgen.weights.config import PIPELINE_SECTIONS, Target, read_component_config, read_pipeline_config
from hy3dgen.weights.load import (
    TensorSource,
    build_without_memory,
    component_names,
    freeze,
    load_weights,
    open_weights,
)

NETWORKS = ("conditioner", "model", "vae")
# Published 2.1 files also hold the VAE's encoder, which turning a picture into a mesh never uses.
_IGNORABLE = {"vae": ("encoder.", "pre_kl.")}

VaeT = TypeVar("VaeT", bound=nn.Module)


def instantiate(target: Target, **overrides: Any) -> Any:
    """An object of the class that a config names.

    Raises UsageError for a foreign class and WeightsDamagedError when the parameters do not fit the class.
    """
    cls = resolve(target.target)
    try:
        return cls(**{**target.params, **overrides})
    except TypeError as error:
        raise WeightsDamagedError(f"the parameters in the config do not fit {cls.__name__}: {error}") from error


def load_parts(config_path: Path, weights_path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """The five parts of a pipeline: networks filled from the file (in its dtype), scheduler and image processor.

    given: parts that the caller brings; they are neither built nor loaded.
    Raises WeightsNotFoundError, and WeightsDamagedError naming file and key, as ``hy3dgen.weights.load`` does.
    """
    config = read_pipeline_config(config_path)
    parts = {name: given[name] for name in PIPELINE_SECTIONS if name in given}
    with open_weights(weights_path) as source:
        stored = component_names(source)
        for name in NETWORKS:
            if name not in parts:
                parts[name] = _network(name, config[name], source, name in stored)
    for name in ("scheduler", "image_processor"):
        if name not in parts:
            parts[name] = instantiate(config[name])
    return parts


def _network(name: str, target: Target, source: TensorSource, is_stored: bool) -> nn.Module:
    if not is_stored:
        if name != "conditioner":
            raise WeightsDamagedError(f"{source.path} holds no '{name}' weights; this is no pipeline checkpoint")
        return freeze(instantiate(target))  # an encoder that brings its own weights
    network = build_without_memory(lambda: instantiate(target))
    return load_weights(network, source, prefix=f"{name}.", ignorable=_IGNORABLE.get(name, ()))


def load_vae(
    cls: type[VaeT],
    weights_path: Path,
    config_path: Path,
    *,
    dtype: torch.dtype | None = None,
    **overrides: Any,
) -> VaeT:
    """A VAE of class ``cls`` on the CPU, from a file without component prefixes or from a pipeline's file.

    The encoder is built when the file has weights for it. overrides: constructor arguments that replace the config's.
    Raises UsageError for an unknown argument and what ``load_parts`` raises.
    """
    params = {**read_component_config(config_path, "vae").params, **overrides}
    with open_weights(weights_path) as source:
        keys = list(source)
        prefix = "vae." if any(key.startswith("vae.") for key in keys) else ""
        try:
            vae = build_without_memory(lambda: cls(**params))
        except TypeError as error:
            raise UsageError(f"{cls.__name__} cannot be built from {config_path}: {error}") from error
        build_for = getattr(vae, "build_for", None)
        if build_for is not None:
            build_without_memory(lambda: _building(vae, build_for, [key.removeprefix(prefix) for key in keys]))
        return load_weights(vae, source, prefix=prefix, dtype=dtype)


def _building(vae: VaeT, build_for: Any, keys: list[str]) -> VaeT:
    build_for(keys)
    return vae
