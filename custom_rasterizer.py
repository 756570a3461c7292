"""The reference's compiled rasteriser: not carried, since this package needs no compiler.

Lies beside the scripts, not inside the package: an installed one of that name belongs to somebody else.
"""

from __future__ import annotations

from typing import Any

from hy3dgen.errors import MissingExtraError


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingExtraError(
        f"custom_rasterizer.{name} is not part of this package; use hy3dgen.rendering.rasterizers.rasterize, which "
        "needs no compiler, or MeshRender of hy3dgen.texgen.differentiable_renderer.mesh_render"
    )
