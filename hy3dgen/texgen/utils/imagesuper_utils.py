"""Image_Super_Net: not carried over from the reference, whose pipelines never use them."""

from __future__ import annotations

from typing import Any

from hy3dgen.errors import MissingExtraError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingExtraError(
        f"super-resolution (imagesuper_utils.{name}) is not part of this package; "
        "the texture size is Hunyuan3DTexGenConfig.texture_size (--texture-size); diffusers can enlarge pictures"
    )
