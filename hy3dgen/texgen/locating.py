"""Where the paint and the delight model lie, as a config to build the pipeline from; loads no network."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, get_args

import torch

from hy3dgen.errors import UsageError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.texgen.config import DEFAULT_SUBFOLDER, PIPE_NAMES, Hunyuan3DTexGenConfig, Start
from hy3dgen.texgen.files import DELIGHT_FILES, DELIGHT_SUBFOLDER, EMPTY_PROMPT, HABITS_KEY, PAINT_FILES, TEXT_FILES
from hy3dgen.weights import catalogue
from hy3dgen.weights.catalogue import BUILT_IN, BUILT_IN_PAINT
from hy3dgen.weights.locate import find_folder, locate_folder

logger = logging.getLogger(__name__)


def configured(
    model_path: str | os.PathLike[str],
    subfolder: str = DEFAULT_SUBFOLDER,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    delight: bool = True,
    offline: bool | None = None,
) -> Hunyuan3DTexGenConfig:
    """The config for models that are found here or fetched; arguments and errors as ``from_pretrained``."""
    known = catalogue.find(os.fspath(model_path))
    if known is not None and known.name == BUILT_IN:
        known = catalogue.entry(BUILT_IN_PAINT)
    if known is not None and known.name == BUILT_IN_PAINT:
        model_path, subfolder = known.name, known.subfolder.rsplit("/", 1)[-1]
    repo: str | os.PathLike[str] = model_path
    if known is not None and known.kind == "texture" and known.repo is not None:
        repo, subfolder = known.repo, known.subfolder
    if subfolder not in PIPE_NAMES:
        raise UsageError(f"'{subfolder}' is no paint model; use one of {', '.join(PIPE_NAMES)}")
    paint = locate_folder(repo, subfolder, PAINT_FILES, offline=offline)
    wishes = habits(paint)
    light = _delight_folder(repo, offline) if delight and not wishes.get("takes_light_out") else None
    return Hunyuan3DTexGenConfig(
        None if light is None else str(light), str(paint), subfolder, device=device, dtype=dtype, **wishes
    )


def habits(folder: Path) -> dict[str, Any]:
    """How a paint model wants to be run, as fields of the config: what 'hy3dgen' in its model_index.json says of
    num_inference_steps, guidance_scale, start ('noise' or 'guess') and takes_light_out. {} where it says nothing.

    Raises WeightsDamagedError for values of the wrong kind.
    """
    from hy3dgen.texgen.loading import read_config

    path = folder / "model_index.json"
    found = read_config(path).get(HABITS_KEY) if path.is_file() else None
    if found is None:
        return {}
    checks = {
        "num_inference_steps": lambda value: type(value) is int and value >= 1,
        "guidance_scale": lambda value: type(value) in (int, float) and value >= 0,
        "start": lambda value: value in get_args(Start),
        "takes_light_out": lambda value: type(value) is bool,
    }
    if not isinstance(found, dict):
        raise WeightsDamagedError(f"'{HABITS_KEY}' in {path} should be an object, found {found!r}")
    for name, is_right in checks.items():
        if name in found and not is_right(found[name]):
            raise WeightsDamagedError(f"'{HABITS_KEY}.{name}' in {path} cannot be {found[name]!r}; fetch it again")
    names = {"num_inference_steps": "multiview_inference_steps", "guidance_scale": "multiview_guidance"}
    return {names.get(name, name): found[name] for name in checks if name in found}


def is_available(model: str | os.PathLike[str], subfolder: str = DEFAULT_SUBFOLDER) -> bool:
    """True when this paint model ('paint', 'paint-turbo', a folder, a hub repository) is complete on this machine."""
    known = catalogue.find(os.fspath(model))
    if known is not None and known.kind == "texture" and known.repo is not None:
        model, subfolder = known.repo, known.subfolder
    return find_folder(model, subfolder, PAINT_FILES) is not None


def _delight_folder(repo: str | os.PathLike[str], offline: bool | None) -> Path | None:
    """The delight model's folder; None for a local folder that has none."""
    for wanted in ((*DELIGHT_FILES, EMPTY_PROMPT), (*DELIGHT_FILES, *TEXT_FILES)):
        found = find_folder(repo, DELIGHT_SUBFOLDER, wanted)
        if found is not None:
            return found
    local = Path(repo).expanduser()
    if local.is_dir():
        if (local / DELIGHT_SUBFOLDER).is_dir():
            raise WeightsNotFoundError(
                f"{local / DELIGHT_SUBFOLDER} is not complete; it needs {', '.join(DELIGHT_FILES + TEXT_FILES)}"
            )
        logger.warning("%s has no %s: light and shadow stay in the pictures", local, DELIGHT_SUBFOLDER)
        return None
    return locate_folder(repo, DELIGHT_SUBFOLDER, (*DELIGHT_FILES, *TEXT_FILES), offline=offline)
