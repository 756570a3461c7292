"""Mesh and pictures -> painted mesh. Names are loaded when they are first used: diffusers alone takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hy3dgen.texgen.pipelines import Hunyuan3DPaintPipeline, Hunyuan3DTexGenConfig

__all__ = ["Hunyuan3DPaintPipeline", "Hunyuan3DTexGenConfig"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from hy3dgen.texgen import pipelines

    return getattr(pipelines, name)


def __dir__() -> list[str]:
    return __all__
