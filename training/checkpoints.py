"""What survives a piece of training: the full state for the same machine, fp16 shards for another one."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hy3dgen.errors import OutputError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.runtime.files import write_atomic

STATE = "state.pt"
MANIFEST = "shards.json"
SHARD_BYTES = 15_500_000  # below 16 MB with the header
FORMAT = 1


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Everything to go on exactly: tensors, numbers, strings, lists and dictionaries of them. Whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomic(folder / STATE, buffer.getvalue())


def read_state(folder: Path, device: torch.device) -> dict[str, Any]:
    """What ``write_state`` wrote. Raises WeightsNotFoundError without one and WeightsDamagedError for a broken one."""
    path = folder / STATE
    if not path.is_file():
        raise WeightsNotFoundError(f"{folder} has no {STATE}; --load takes a folder that a run with --out wrote")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsDamagedError(f"{path} cannot be read ({reason}); use the shards beside it") from error


def write_shards(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> list[Path]:
    """fp16 copies of the tensors in safetensors files under 16 MB each, and a manifest with their hashes.

    facts: anything JSON can hold; comes back from ``read_shards``. Old shards in the folder are replaced.
    Raises OutputError for a tensor that alone is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("shard-*.safetensors"):
        old.unlink()
    paths, entries = [], []
    for number, group in enumerate(_groups(tensors)):
        data = save(group)
        path = folder / f"shard-{number:02d}.safetensors"
        write_atomic(path, data)
        paths.append(path)
        entries.append({"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    manifest = {"format": FORMAT, "shards": entries, "facts": dict(facts)}
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    return [*paths, folder / MANIFEST]


def _groups(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        small = tensor.detach().to("cpu", torch.float16).contiguous()
        extent = small.numel() * small.element_size()
        if extent > SHARD_BYTES:
            raise OutputError(f"'{name}' alone takes {extent} bytes, more than a shard may ({SHARD_BYTES})")
        if size + extent > SHARD_BYTES:
            groups.append({})
            size = 0
        groups[-1][name] = small
        size += extent
    return groups


def read_shards(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors in fp16 on the CPU, facts) as given to ``write_shards``.

    Raises WeightsNotFoundError when the manifest or a shard is missing, WeightsDamagedError when a hash differs.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise WeightsNotFoundError(f"{folder} has no {MANIFEST}, so it holds no shards")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("format") != FORMAT:
        raise WeightsDamagedError(f"{path} has format {manifest.get('format')}, this version reads {FORMAT}")
    tensors: dict[str, Tensor] = {}
    for entry in manifest["shards"]:
        shard = folder / entry["file"]
        if not shard.is_file():
            raise WeightsNotFoundError(f"{shard} is missing; copy all files that {MANIFEST} names")
        data = shard.read_bytes()
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise WeightsDamagedError(f"{shard} is not the file that {MANIFEST} describes; copy it again")
        try:
            tensors |= load(data)
        except SafetensorError as error:
            raise WeightsDamagedError(f"{shard} is no safetensors file ({error})") from error
    return tensors, manifest["facts"]
