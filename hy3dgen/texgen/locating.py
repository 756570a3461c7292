"""Where the paint and the delight model lie, as a config to build the pipeline from; loads no network."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from hy3dgen.errors import UsageError, WeightsNotFoundError
from hy3dgen.texgen.config import DEFAULT_SUBFOLDER, PIPE_NAMES, Hunyuan3DTexGenConfig
from hy3dgen.texgen.files import DELIGHT_FILES, DELIGHT_SUBFOLDER, EMPTY_PROMPT, PAINT_FILES, TEXT_FILES
from hy3dgen.weights import catalogue
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
    repo: str | os.PathLike[str] = model_path
    if known is not None and known.kind == "texture" and known.repo is not None:
        repo, subfolder = known.repo, known.subfolder
    if subfolder not in PIPE_NAMES:
        raise UsageError(f"'{subfolder}' is no paint model; use one of {', '.join(PIPE_NAMES)}")
    paint = locate_folder(repo, subfolder, PAINT_FILES, offline=offline)
    light = _delight_folder(repo, offline) if delight else None
    return Hunyuan3DTexGenConfig(
        None if light is None else str(light), str(paint), subfolder, device=device, dtype=dtype
    )


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
