"""Description: Pictures are shrunk to 1024 px before background removal. Saves host memory and time.
Origin: memo, technique 3 (input size cap)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Adds `preprocess_image_size(image, max_size=1024)` to hy3dgen/rembg.py and calls it first in the remover.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, dotted, find_all, holds_call, parameters

CLASS = "BackgroundRemover"
NAME = "preprocess_image_size"
FUNCTION = f'''\
def {NAME}(image, max_size=1024):
    """Shrink a PIL picture so that its longer side is at most max_size; others are returned as they are."""
    if not hasattr(image, "resize") or not hasattr(image, "mode") or max(image.size) <= max_size:
        return image
    from PIL import Image

    scale = max_size / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    if image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode in ("LA", "PA") else "RGB")
    return image.resize(size, Image.LANCZOS)
'''


def _bound(source: Source) -> bool:
    """Whether the file has the function, its own or imported: a fork's own one is called as it is."""
    for alias in find_all(source.module, cst.ImportAlias):
        if dotted(alias.asname.name if alias.asname else alias.name) == NAME:
            return True
    return any(node.name.value == NAME for node in find_all(source.module, cst.FunctionDef))


def edit(source: Source) -> None:
    """Add the function behind the imports, and its call first in `__call__`."""
    call = source.method(CLASS, "__call__")
    names = [*parameters(call), *(param.name.value for param in call.params.kwonly_params)]
    if len(names) < 2:
        raise DoesNotFit(f"{CLASS}.__call__ takes no picture")
    if not holds_call(call, NAME):
        source.insert_at_top(call, f"{names[1]} = {NAME}({names[1]})\n")
    if not _bound(source):
        source.insert_after_imports(FUNCTION)


def broken(source: Source) -> str | None:
    """The function is there (defined or imported) and the remover calls it."""
    if not _bound(source):
        return f"no {NAME}"
    return None if holds_call(source.method(CLASS, "__call__"), NAME) else f"{CLASS}.__call__ does not call {NAME}"


PLACES = [Place("hy3dgen/rembg.py", edit, broken)]
