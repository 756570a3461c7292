"""Which models a name means on this machine. Looks for files and loads nothing, so that it is quick to ask."""

from __future__ import annotations

from pathlib import Path

from hy3dgen import text2image
from hy3dgen.weights import inventory
from hy3dgen.weights.catalogue import BUILT_IN, BUILT_IN_PAINT
from hy3dgen.weights.locate import find_folder

# 'auto' takes the first of these that is on this machine; it never downloads.
AUTO_ORDER = ("2", "2-fast", "2-turbo", "2.1", "2mini", "2mini-fast", "2mini-turbo")
AUTO_ORDER_MANY_VIEWS = ("2mv", "2mv-fast", "2mv-turbo")
PAINTED = ("paint", "paint-turbo")


def how_to_get_words() -> str | None:
    """The command that gets the text-to-image weights, None when they are here."""
    return None if text2image.is_here() else f"hf download {text2image.MODEL_ID}"


def choose(model: str, *, many_views: bool = False) -> str:
    """What to load: 'auto' becomes the best official model on this machine, else the built-in one."""
    if model != "auto":
        return str(Path(model).expanduser()) if model.startswith("~") else model
    order = (*AUTO_ORDER_MANY_VIEWS, *AUTO_ORDER) if many_views else AUTO_ORDER
    return next((name for name in order if inventory.is_here(name)), BUILT_IN)


def colour_models(texture: str, *, delight: bool) -> tuple[str, ...]:
    """The catalogue's names of the models that this way of colouring uses."""
    if texture == BUILT_IN_PAINT:  # works beside the projected picture and needs no delight model
        return (BUILT_IN_PAINT,)
    if texture not in PAINTED:
        return ()
    return (texture, "delight") if delight else (texture,)


def is_here(texture: str, *, delight: bool) -> bool:
    """Whether this way of colouring works without a download."""
    return all(find_folder(name) is not None for name in colour_models(texture, delight=delight))
