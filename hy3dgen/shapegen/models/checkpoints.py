"""State dicts from files for the networks that can fill themselves (``ckpt_path=``, ``init_from_ckpt``).

Whole pipelines are loaded by ``hy3dgen.weights``; this module only opens one file and unpickles tensors, never code.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hy3dgen.errors import WeightsDamagedError, WeightsNotFoundError


def read_checkpoint(path: str | Path, *, strip_prefixes: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The state dict in a .safetensors file or a torch pickle, or the pickle's 'state_dict' entry.

    strip_prefixes: taken off the keys, one after the other, where a key has them (training wrappers leave them).
    Raises WeightsNotFoundError for a missing file, WeightsDamagedError for one that holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsNotFoundError(f"no checkpoint at {path}; give the path of a .safetensors or .ckpt file")
    state = _read(path)
    if not isinstance(state, Mapping):
        raise WeightsDamagedError(f"{path} holds a {type(state).__name__}, expected a mapping from keys to tensors")
    inner = state.get("state_dict", state)
    result = {}
    for key, value in inner.items():
        for prefix in strip_prefixes:
            key = key.removeprefix(prefix)
        result[key] = value
    return result


def _read(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise WeightsDamagedError(f"{path} is no readable checkpoint of tensors: {error}") from error
