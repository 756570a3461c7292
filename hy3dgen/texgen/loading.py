"""From a checkpoint folder in the official layout to networks: mapped files, strict keys, no code from the folder.

Sizes come from each folder's config.json. Knows where files lie inside a folder, not how the folder is found.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from hy3dgen.errors import OutputError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.runtime.files import sha256_of_bytes, write_atomic
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.files import EMPTY_PROMPT, TEXT_WEIGHT_NAMES, WEIGHT_NAMES
from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel
from hy3dgen.weights.load import TensorSource, build_without_memory, load_weights, open_weights
from hy3dgen.weights.locate import model_roots

logger = logging.getLogger(__name__)

# The published VAE files spell their one attention as old diffusers versions did.
_OLD_VAE_KEYS = tuple(
    (re.compile(rf"(mid_block\.attentions\.\d+)\.{old}\."), rf"\1.{new}.")
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
)
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class _Renamed:
    """A weight file seen through a table of key spellings, extra keys left out."""

    def __init__(self, source: TensorSource, rename: Callable[[str], str], keep: Callable[[str], bool]) -> None:
        self.path = source.path
        self._source = source
        self._keys = {new: old for old in source if keep(new := rename(old))}

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._source.shape(self._keys[key])

    def get(self, key: str) -> Tensor:
        return self._source.get(self._keys[key])


def read_config(path: Path) -> dict[str, Any]:
    """A JSON config. Raises WeightsNotFoundError or WeightsDamagedError with its path."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsNotFoundError(
            f"{path} does not exist; the model folder is not complete, fetch it again"
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsDamagedError(f"{path} cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise WeightsDamagedError(f"{path} should hold a JSON object, found {type(content).__name__}; fetch it again")
    return content


def load_vae(folder: Path, dtype: torch.dtype | None = None) -> AutoencoderKL:
    """The VAE in ``folder``; tensors stay in the mapped file unless ``dtype`` is another one."""
    return _load(folder, AutoencoderKL.from_config, dtype, rename=_new_vae_key)


def load_unet(folder: Path, dtype: torch.dtype | None = None) -> UNet2DConditionModel:
    """A plain UNet, as the delight model has one."""
    return _load(folder, UNet2DConditionModel.from_config, dtype)


def load_paint_unet(folder: Path, dtype: torch.dtype | None = None) -> UNet2p5DConditionModel:
    """The paint UNet. Keys that its file has beside the network's own (an image adapter in the turbo file that
    nothing feeds) are left out with one log line; a ``modules.py`` in the folder is never read."""

    def build(config: dict[str, Any]) -> UNet2p5DConditionModel:
        return UNet2p5DConditionModel(UNet2DConditionModel.from_config(config))

    return _load(folder, build, dtype, leave_extra=True)


def load_scheduler(folder: Path, *, turbo: bool = False, **overrides: Any) -> Any:
    """Ancestral Euler, or LCM when ``turbo``, with the checkpoint's scheduler config and these overrides."""
    config = read_config(folder / "scheduler_config.json")
    cls = LCMScheduler if turbo else EulerAncestralDiscreteScheduler
    return cls.from_config(config, **overrides)


def empty_prompt(folder: Path) -> Tensor:
    """The delight model's text states of the empty prompt: (1, T, D), a constant of the checkpoint.

    The first use runs the folder's text encoder once and stores the result beside it (or in the models folder when
    that cannot be written), so that neither it nor its memory is needed again.
    Raises WeightsNotFoundError when there is neither a stored result nor a text encoder.
    """
    encoder = next((p for name in TEXT_WEIGHT_NAMES if (p := folder / "text_encoder" / name).is_file()), None)
    places = [folder / EMPTY_PROMPT]
    if encoder is not None:
        places.append(model_roots()[-1] / "empty_prompt" / f"{_fingerprint(encoder)}.safetensors")
    for place in places:
        if place.is_file():
            with open_weights(place) as source:
                return source.get("prompt_embeds").clone()
    if encoder is None:
        raise WeightsNotFoundError(
            f"{folder} has neither {EMPTY_PROMPT} nor a text_encoder; fetch the delight model again or use --no-delight"
        )
    states = _encode_empty_prompt(folder)
    _store(states, places)
    return states


def _encode_empty_prompt(folder: Path) -> Tensor:
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True, dtype=torch.float32)
    tokens = tokenizer(
        "", padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return encoder.eval()(tokens.input_ids)[0].detach().clone()


def _store(states: Tensor, places: list[Path]) -> None:
    from safetensors.torch import save

    data = save({"prompt_embeds": states.contiguous()})
    for place in places:
        try:
            write_atomic(place, data)
        except OutputError as error:
            logger.debug("%s", error)
            continue
        logger.info("stored the delight model's constant text states in %s", place)
        return
    logger.warning("the delight model's constant text states could not be stored; they are computed again next time")


def _fingerprint(path: Path) -> str:
    """Tells weight files apart without reading them whole: size, head and tail."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 16)
        file.seek(max(0, size - (1 << 16)))
        return sha256_of_bytes(str(size).encode() + head + file.read())


def _new_vae_key(key: str) -> str:
    for pattern, replacement in _OLD_VAE_KEYS:
        key = pattern.sub(replacement, key)
    return key


def _load(
    folder: Path,
    build: Callable[[dict[str, Any]], Any],
    dtype: torch.dtype | None,
    *,
    rename: Callable[[str], str] = lambda key: key,
    leave_extra: bool = False,
) -> Any:
    config = read_config(folder / "config.json")
    path = next((p for name in WEIGHT_NAMES if (p := folder / name).is_file()), None)
    if path is None:
        raise WeightsNotFoundError(f"{folder} holds no weights; expected one of {', '.join(WEIGHT_NAMES)}")
    module = use_attend(build_without_memory(lambda: build(config)))
    wanted = module.state_dict(keep_vars=True).keys()
    with open_weights(path) as source:
        extra = [key for key in source if rename(key) not in wanted] if leave_extra else []
        if extra:
            logger.info(
                "%s: %d tensors that the paint network does not have are left out (%s, …)", path, len(extra), extra[0]
            )
        unwanted = set(extra)
        return load_weights(module, _Renamed(source, rename, lambda key: key not in unwanted), dtype=dtype)
