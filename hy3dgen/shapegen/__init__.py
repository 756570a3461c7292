"""Pictures to meshes. The names below are imported when first asked for, each with what it needs and no more."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Hunyuan3DDiTPipeline": "pipelines",
    "Hunyuan3DDiTFlowMatchingPipeline": "pipelines",
    "FaceReducer": "postprocessors",
    "FloaterRemover": "postprocessors",
    "DegenerateFaceRemover": "postprocessors",
    "MeshSimplifier": "postprocessors",
    "ImageProcessorV2": "preprocessors",
    "IMAGE_PROCESSORS": "preprocessors",
    "DEFAULT_IMAGEPROCESSOR": "preprocessors",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - strings, all of them


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
