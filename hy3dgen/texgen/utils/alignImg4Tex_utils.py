"""Img2img_Control_Ip_adapter, HesModel: not carried over from the reference, whose pipelines never use them."""

from __future__ import annotations

from typing import Any

from hy3dgen.errors import MissingExtraError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingExtraError(
        f"image alignment (alignImg4Tex_utils.{name}) is not part of this package; "
        "use diffusers' ControlNet pipelines, or give a better picture"
    )
