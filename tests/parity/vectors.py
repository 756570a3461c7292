"""Recorded numbers of the reference: find the files of a kind and load one.

The folder comes from the environment variable PARITY_DIR (default ``tests/data/parity``); below it lie ``shapegen/``
and ``texgen/``. A file belongs to the longest kind that its name starts with, and its configuration comes from its
own metadata, so that other files of the same kinds are checked by the same tests.
"""

from __future__ import annotations

import json
import lzma
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors

from tools.parity_subset import forms

KINDS: dict[str, tuple[str, ...]] = {
    "shapegen": (
        "attention_processors", "conditioner_dual", "conditioner_mv", "conditioner_single", "fourier_embedder",
        "hunyuan3ddit", "hunyuandit_decoupled", "hunyuandit_moe", "hunyuandit_plain", "hunyuandit_pooling",
        "near_surface", "pipeline", "postprocess_counts", "preprocess_image", "preprocess_mv", "resize_kernels_uint8",
        "schedulers", "shapevae_decode", "shapevae_encode", "surface_loader", "surface_mc", "volume_flashvdm",
        "volume_hierarchical", "volume_vanilla",
    ),
    "texgen": (
        "back_project", "camera_index", "camera", "delight_full", "delight_glue", "fast_bake", "full_bake",
        "grid_put", "mesh_processor", "multiview_glue", "paint_helpers", "paint_pipeline", "rasterizer",
        "recenter_image", "recorrect_rgb", "render", "unet2p5d", "voxel",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Vector:
    """One recorded case; names without their ``weights.``, ``input.`` and ``output.`` prefixes."""

    name: str
    weights: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    config: dict[str, Any]


def folder(kind_root: str) -> Path:
    """Where the vectors of 'shapegen' or 'texgen' lie."""
    default = Path(__file__).resolve().parents[1] / "data" / "parity"
    return Path(os.environ.get("PARITY_DIR") or default) / kind_root


def kind_of(kind_root: str, stem: str) -> str | None:
    """The longest kind that the file name starts with."""
    return max((kind for kind in KINDS[kind_root] if stem.startswith(kind)), key=len, default=None)


def files(kind_root: str, kind: str) -> list[Path]:
    """Every vector file of this kind, sorted by name."""
    if kind not in KINDS[kind_root]:
        raise KeyError(f"{kind} is not a kind of {kind_root}")
    found = [*folder(kind_root).glob("*.safetensors"), *folder(kind_root).glob("*.safetensors.xz")]
    return sorted(path for path in found if kind_of(kind_root, path.name) == kind)


def load(path: Path) -> Vector:
    """Read one file, compressed or not; ``config`` is the parsed JSON of its metadata.

    Tensors that the repository's subset gives as seeded draws (``drawn``, see tools/parity_subset.py) are drawn.
    """
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    config = json.loads(header.get("__metadata__", {}).get("config", "{}"))
    tensors = load_tensors(data)
    for recipe in config.pop("drawn", ()):
        generator = torch.Generator().manual_seed(recipe["seed"])
        for key, shape, form in recipe["tensors"]:
            tensors[key] = dict(forms(torch.randn(shape, generator=generator)))[form]
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "input": {}, "output": {}}
    for key in sorted(tensors):
        prefix, _, name = key.partition(".")
        parts[prefix][name] = tensors[key]
    return Vector(path.name.split(".")[0], parts["weights"], parts["input"], parts["output"], config)
