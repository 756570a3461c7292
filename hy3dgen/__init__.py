"""One picture to a textured 3D mesh, within the memory you allow.

``hy3dgen.generate(image)`` is the whole job in one call. Importing this package is light: torch and the rest
are loaded when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hy3dgen.api import Result, generate

__version__ = "0.1.0"

__all__ = ["generate", "Result", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("generate", "Result"):
        from hy3dgen import api

        return getattr(api, name)
    raise AttributeError(f"module 'hy3dgen' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), "generate", "Result"])
