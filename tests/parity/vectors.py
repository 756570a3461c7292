"""Recorded numbers of the reference: find the files of a kind and load one.

The folder comes from the environment variable PARITY_DIR (default ``tests/data/parity``); below it lie ``shapegen/``
and ``texgen/``. A file belongs to the longest kind that its name starts with, and its configuration comes from its
own metadata, so that other files of the same kinds are checked by the same tests.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

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
    return sorted(p for p in folder(kind_root).glob("*.safetensors") if kind_of(kind_root, p.stem) == kind)


def load(path: Path) -> Vector:
    """Read one file; ``config`` is the parsed JSON of its metadata."""
    parts: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "input": {}, "output": {}}
    with safe_open(path, "pt") as file:
        config = json.loads((file.metadata() or {}).get("config", "{}"))
        for key in file.keys():  # noqa: SIM118 - not a mapping
            prefix, _, name = key.partition(".")
            parts[prefix][name] = file.get_tensor(key)
    return Vector(path.stem, parts["weights"], parts["input"], parts["output"], config)
