"""What callers hand to a shape pipeline: pictures in several forms, and keywords. Checked here, trusted inside."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from hy3dgen.errors import ImageError, ImageNotFoundError, UsageError

# The reference's own server passes its whole request to the pipeline; these keys of it mean nothing there.
REQUEST_KEYWORDS = ("mesh", "text", "texture", "face_count", "type", "uid", "model", "remove_background")


def prepare(image: Any, processor: Any) -> dict[str, Any]:
    """One picture or mapping of views, or a list of them -> the processor's results, batched.

    Tensors are joined along the batch, everything else is collected in lists.
    Raises ImageNotFoundError for a missing path, ImageError for what does not suit the model.
    """
    if image is None:
        raise ImageError("no picture was given; pass image=, a path, a PIL image or (multi-view models) a dict of them")
    objects = image if isinstance(image, list) else [image]
    if not objects:
        raise ImageError("the list of pictures is empty; pass at least one")
    several_views = hasattr(processor, "view2idx")
    results = [processor(_suited(item, several_views)) for item in objects]
    counts = {tuple(result["image"].shape[1:]) for result in results}
    if len(counts) > 1:
        views = [result["image"].shape[1] for result in results]
        raise ImageError(f"the objects of one batch need the same number of views, found {views}; run them one by one")
    return {
        key: torch.cat([result[key] for result in results])
        if isinstance(results[0][key], torch.Tensor)
        else [result[key] for result in results]
        for key in results[0]
    }


def _suited(item: Any, several_views: bool) -> Any:
    """A picture for a one-picture model, a mapping of views for a multi-view model (one picture is its front)."""
    if isinstance(item, Mapping):
        if not several_views:
            raise ImageError(
                f"this model takes one picture, but the views {', '.join(map(str, item))} were given; "
                "pass one of them, or use a multi-view model such as 2mv"
            )
        views = {name: view for name, view in item.items() if view is not None}
        for view in views.values():
            _require_file(view)
        return views
    _require_file(item)
    return {"front": item} if several_views else item


def _require_file(image: Any) -> None:
    if isinstance(image, (str, os.PathLike)) and not os.path.exists(image):
        raise ImageNotFoundError(f"no picture at '{os.fspath(image)}': no such file")


def refuse_unknown(given: Iterable[str], known: Sequence[str], function: str) -> None:
    """Raise TypeError for a keyword that ``function`` does not have, naming the nearest that it has."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"it takes {', '.join(known)}"
            raise TypeError(f"{function}() got an unexpected keyword '{name}'; {hint}")


def drop_request_keywords(given: Mapping[str, Any], known: Sequence[str], function: str) -> None:
    """Warn about keywords of a whole server request, refuse all others as ``refuse_unknown`` does."""
    refuse_unknown((name for name in given if name not in REQUEST_KEYWORDS), known, function)
    if given:
        warnings.warn(f"{function}() has no use for {', '.join(given)}; ignored", UserWarning, stacklevel=3)


def generators(
    generator: torch.Generator | Sequence[torch.Generator] | None, seed: int | Sequence[int] | None
) -> torch.Generator | list[torch.Generator] | None:
    """The generators to draw from: those given, else CPU ones with these seeds, else None.

    Raises UsageError for a seed that is no whole number.
    """
    if generator is not None:
        return generator if isinstance(generator, torch.Generator) else list(generator)
    if seed is None:
        return None
    if isinstance(seed, (list, tuple)):
        return [_seeded(single) for single in seed]
    return _seeded(seed)


def _seeded(seed: Any) -> torch.Generator:
    try:
        return torch.Generator(device="cpu").manual_seed(int(seed))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"seed is {seed!r}; expected a whole number, or a list of them, one per picture") from error


def require_count(value: Any, name: str, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``. Raises UsageError."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return int(value)
