"""From a ``target:`` string in a checkpoint's config to one of our own classes.

A config file names classes by import path. Such a path is only ever looked up in the table below: nothing that a
downloaded file says is imported.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from hy3dgen.errors import UsageError

_ROOT = "hy3dgen.shapegen"
_FOREIGN_ROOT = "hy3dshape"  # what the 2.1 checkpoints call the package

_DENOISERS, _VAES = f"{_ROOT}.models.denoisers", f"{_ROOT}.models.autoencoders"
_CONDITIONER, _SCHEDULERS = f"{_ROOT}.models.conditioner", f"{_ROOT}.schedulers"
_PREPROCESSORS, _PIPELINES = f"{_ROOT}.preprocessors", f"{_ROOT}.pipelines"

# Class name -> the module that defines it.
HOMES: dict[str, str] = {
    "Hunyuan3DDiT": f"{_DENOISERS}.hunyuan3ddit",
    "HunYuanDiTPlain": f"{_DENOISERS}.hunyuandit",
    "ShapeVAE": f"{_VAES}.model",
    "SingleImageEncoder": _CONDITIONER,
    "DualImageEncoder": _CONDITIONER,
    "DinoImageEncoder": _CONDITIONER,
    "DinoImageEncoderMV": _CONDITIONER,
    "CLIPImageEncoder": _CONDITIONER,
    "FlowMatchEulerDiscreteScheduler": _SCHEDULERS,
    "ConsistencyFlowMatchEulerDiscreteScheduler": _SCHEDULERS,
    "ImageProcessorV2": _PREPROCESSORS,
    "MVImageProcessorV2": _PREPROCESSORS,
    "Hunyuan3DDiTPipeline": _PIPELINES,
    "Hunyuan3DDiTFlowMatchingPipeline": _PIPELINES,
}


def resolve(target: str) -> type[Any]:
    """The class that ``target`` names.

    target: dotted path; a leading ``hy3dshape.`` means ours, and so does a package put in front of ``hy3dgen.``.
    The path before the class name must be where the class can be imported from in this package.
    Raises UsageError for anything that is not in the table.
    """
    path, _, name = _ours(target).rpartition(".")
    home = HOMES.get(name)
    # 'hy3dgen.shapegen.models.ShapeVAE' is a facade's path: a prefix of the defining module's.
    if home is None or not (home == path or home.startswith(path + ".")) or not path.startswith(_ROOT):
        near = difflib.get_close_matches(name, HOMES, n=1)
        hint = f"; did you mean {HOMES[near[0]]}.{near[0]}?" if near else f"; known are {', '.join(HOMES)}"
        raise UsageError(f"config target '{target}' is none of this package's classes and is not imported{hint}")
    return getattr(importlib.import_module(home), name)


def _ours(target: str) -> str:
    if target.startswith(_FOREIGN_ROOT + "."):
        return _ROOT + target[len(_FOREIGN_ROOT) :]
    _, found, rest = target.partition(".hy3dgen.")
    return f"hy3dgen.{rest}" if found else target
