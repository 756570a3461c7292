"""Which models a name means on this machine. Looks for files and loads nothing, so that it is quick to ask."""

from __future__ import annotations

from pathlib import Path

from hy3dgen import text2image
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.weights import catalogue, inventory
from hy3dgen.weights.catalogue import BUILT_IN, BUILT_IN_PAINT
from hy3dgen.weights.config import read_pipeline_config
from hy3dgen.weights.locate import MANY_VIEWS_SUBFOLDER, FoundModel, find_folder, find_inside, find_model

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


def with_many_views(model: str) -> FoundModel | None:
    """This model's second config, for several pictures of one object, on this machine; None where it has no second."""
    return find_inside(model, MANY_VIEWS_SUBFOLDER)


def num_views(model: str, found: FoundModel | None = None) -> int:
    """How many pictures of one object this model looks at together: 1, or all four sides.

    The catalogue says it of official models; of others their config does. found: its files, looked for when None.
    Raises WeightsDamagedError for a config that cannot be read.
    """
    entry = catalogue.find(model)
    if entry is not None and entry.is_official:
        return entry.num_views
    found = found or with_many_views(model) or find_model(model)
    if found is None:
        return 1
    processor = read_pipeline_config(found.config)["image_processor"].target
    return len(VIEW_AZIMUTHS_DEG) if processor.endswith(".MVImageProcessorV2") else 1


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
