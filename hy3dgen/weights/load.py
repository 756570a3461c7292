"""From a weight file to a module: built without memory, filled strictly, tensor by tensor.

A safetensors file is mapped, not read: a tensor whose dtype is already right costs no memory of its own.
Knows neither our networks nor where files come from.
"""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from hy3dgen.errors import WeightsDamagedError, WeightsNotFoundError

ModuleT = TypeVar("ModuleT", bound=nn.Module)

# Foreign spellings of keys -> the spelling of the published checkpoints, which our modules use.
KEY_REPAIRS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(^|\.)_orig_mod\.", r"\1"),  # saved from a compiled module
        (r"(^|\.)_forward_module\.", r"\1"),  # saved from a training wrapper
        # transformers 5 renamed the parts of DINOv2
        (r"(encoder\.layer\.\d+\.attention)\.q_proj\.", r"\1.attention.query."),
        (r"(encoder\.layer\.\d+\.attention)\.k_proj\.", r"\1.attention.key."),
        (r"(encoder\.layer\.\d+\.attention)\.v_proj\.", r"\1.attention.value."),
        (r"(encoder\.layer\.\d+\.attention)\.o_proj\.", r"\1.output.dense."),
        (r"(encoder\.layer\.\d+\.mlp)\.down_proj\.", r"\1.weights_out."),
    )
)
# transformers 5 also split the SwiGLU input: the published tensor is the first part above the second.
_SPLIT_GATE = re.compile(r"(encoder\.layer\.\d+\.mlp)\.(gate_proj|up_proj)\.(weight|bias)$")


class TensorSource(Protocol):
    """Named tensors of one weight file, fetched one at a time."""

    path: Path

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, key: str) -> tuple[int, ...]: ...

    def get(self, key: str) -> torch.Tensor: ...


class _MappedFile:
    """A safetensors file. Its tensors are views of the mapped file: no memory of their own until written to."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        self._keys = list(handle.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._handle.get_slice(key).get_shape())

    def get(self, key: str) -> torch.Tensor:
        return self._handle.get_tensor(key)


class _PickledFile:
    """A ``.ckpt`` or ``.bin`` file, unpickled with tensors and plain containers only."""

    def __init__(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        self.path = path
        self._tensors = tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, key: str) -> tuple[int, ...]:
        return tuple(self._tensors[key].shape)

    def get(self, key: str) -> torch.Tensor:
        return self._tensors[key]


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[TensorSource]:
    """Open a ``.safetensors``, ``.ckpt`` or ``.bin`` file; tensors fetched from it stay valid afterwards.

    Raises WeightsNotFoundError when there is no such file and WeightsDamagedError when it is truncated, is not what
    its name says, or is a pickle with anything but tensors in it (such a file could run code and is refused).
    """
    if not path.is_file():
        raise WeightsNotFoundError(f"weight file {path} does not exist")
    if path.suffix == ".safetensors":
        try:
            handle = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError) as error:
            raise WeightsDamagedError(
                f"{path} is truncated or not a safetensors file ({error}); fetch it again"
            ) from error
        with handle as opened:
            yield _MappedFile(path, opened)
        return
    yield _PickledFile(path, _flatten(_unpickle(path), path))


def _unpickle(path: Path) -> Any:
    for mapped in (True, False):  # files of old torch versions cannot be mapped
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except pickle.UnpicklingError as error:
            raise WeightsDamagedError(
                f"{path} holds more than tensors, or is damaged, and is refused ({str(error).splitlines()[0]}); "
                "use the safetensors file of this model"
            ) from error
        except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
            if mapped:
                continue
            raise WeightsDamagedError(f"{path} is truncated or not a torch file ({error}); fetch it again") from error
    raise AssertionError("unreachable")


def _flatten(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """{'model': {'a': t}} and {'state_dict': {'a': t}} -> {'model.a': t}, {'a': t}."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise WeightsDamagedError(f"{path} should hold a dictionary of tensors, found {type(content).__name__}")
    flat: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        if isinstance(value, torch.Tensor):
            flat[str(key)] = value
        elif isinstance(value, Mapping):
            flat.update(
                {f"{key}.{inner}": tensor for inner, tensor in value.items() if isinstance(tensor, torch.Tensor)}
            )
    return flat


class _ParametersOnMeta(TorchFunctionMode):
    """Inside, ``torch.empty`` makes meta tensors, so parameters of torch's own layers cost nothing.

    Tables that a module computes at construction (frequencies, embeddings) keep their values, which building
    everything on the meta device would lose.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build_without_memory(build: Callable[[], ModuleT]) -> ModuleT:
    """Call ``build`` so that the parameters of the module it returns take no memory and no initialisation."""
    with _ParametersOnMeta():
        return build()


def load_weights(
    module: ModuleT,
    source: TensorSource,
    *,
    prefix: str = "",
    dtype: torch.dtype | None = None,
    ignorable: tuple[str, ...] = (),
) -> ModuleT:
    """Fill a module strictly from the tensors under ``prefix`` and switch it to evaluation, without gradients.

    prefix: 'vae.' for one component of a pipeline file, '' for a file of one network.
    dtype: floating point tensors are converted to it one by one; None keeps the file's. Equal dtypes share the file.
    ignorable: prefixes of keys (after ``prefix``) that the file may have although this module does not.
    Raises WeightsDamagedError naming file and key when one is missing, unknown or has another shape.
    """
    available = _find_keys(source, prefix)
    wanted = module.state_dict(keep_vars=True)
    missing = [key for key in wanted if key not in available]
    unknown = [key for key in available if key not in wanted and not key.startswith(ignorable or ("\0",))]
    if missing or unknown:
        raise WeightsDamagedError(_key_complaint(source.path, prefix, missing, unknown))
    for key, slot in wanted.items():
        tensor = _fetch(source, available[key])
        if tensor.shape != slot.shape:
            raise WeightsDamagedError(
                f"{source.path}: '{prefix}{key}' has shape {tuple(tensor.shape)}, "
                f"the network of its config expects {tuple(slot.shape)}; "
                "the file and config.yaml do not belong together"
            )
        set_tensor(module, key, convert(tensor, dtype))
    for name, buffer in _own_buffers(module, set(wanted)):
        set_tensor(module, name, convert(buffer, dtype))
    return freeze(module)


def freeze(module: ModuleT) -> ModuleT:
    """Evaluation mode, no gradients. Raises WeightsDamagedError when a tensor was never filled."""
    empty = [name for name, tensor in _all_tensors(module) if tensor.is_meta]
    if empty:
        raise WeightsDamagedError(f"{type(module).__name__}: no weights were given for {_some(empty)}")
    return module.requires_grad_(False).eval()


def convert(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor in this dtype when it holds floating point numbers; the same object when nothing changes."""
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def set_tensor(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a tensor in the place of the parameter or buffer with this dotted name."""
    *path, leaf = name.split(".")
    owner = module.get_submodule(".".join(path))
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(tensor, requires_grad=False)
    else:
        owner._buffers[leaf] = tensor


def repair_key(key: str) -> str:
    """The published spelling of a checkpoint key."""
    for pattern, replacement in KEY_REPAIRS:
        key = pattern.sub(replacement, key)
    return key


def _find_keys(source: TensorSource, prefix: str) -> dict[str, tuple[str, ...]]:
    """Repaired key (without prefix) -> the keys of the file that make it up."""
    found: dict[str, tuple[str, ...]] = {}
    for key in source:
        plain = repair_key(key)
        if not plain.startswith(prefix):
            continue
        plain = plain[len(prefix) :]
        split = _SPLIT_GATE.search(plain)
        if split is None:
            found[plain] = (key,)
        elif split[2] == "gate_proj":
            found[f"{plain[: split.start()]}{split[1]}.weights_in.{split[3]}"] = (
                key,
                key.replace("gate_proj", "up_proj"),
            )
    return found


def _fetch(source: TensorSource, keys: tuple[str, ...]) -> torch.Tensor:
    try:
        tensors = [source.get(key) for key in keys]
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise WeightsDamagedError(
            f"{source.path}: '{keys[0]}' cannot be read ({error}); fetch the file again"
        ) from error
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _own_buffers(module: nn.Module, stored: set[str]) -> list[tuple[str, torch.Tensor]]:
    """Buffers that no file holds: computed at construction, but cast like the rest."""
    return [(name, buffer) for name, buffer in module.named_buffers() if name not in stored]


def _all_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _key_complaint(path: Path, prefix: str, missing: list[str], unknown: list[str]) -> str:
    parts = []
    if missing:
        parts.append(f"lacks {_some([prefix + key for key in missing])}")
    if unknown:
        parts.append(f"has unknown {_some([prefix + key for key in unknown])}")
    return f"{path} {' and '.join(parts)}; the file is damaged, or does not belong to the config.yaml beside it"


def _some(keys: list[str], shown: int = 3) -> str:
    listed = ", ".join(f"'{key}'" for key in keys[:shown])
    return listed if len(keys) <= shown else f"{listed} and {len(keys) - shown} more"


def component_names(source: TensorSource) -> set[str]:
    """First parts of all keys: which components a pipeline file has."""
    return {repair_key(key).split(".", 1)[0] for key in source}
