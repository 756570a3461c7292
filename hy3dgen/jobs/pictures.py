"""The pictures of a task made ready: opened, checked, reduced, cut out. Nothing here needs a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from hy3dgen.errors import ImageError
from hy3dgen.images.background import cut_out
from hy3dgen.images.load import PictureSource, open_picture
from hy3dgen.images.matting import Nets
from hy3dgen.images.size import preprocess_image_size
from hy3dgen.jobs.identity import picture_hash
from hy3dgen.jobs.options import JobOptions
from hy3dgen.reports.run import Source
from hy3dgen.runtime.files import sha256_of_bytes
from hy3dgen.runtime.stages import StageRecord, check_cancelled, stage

_TINY = 4
"""A view this many times smaller than the largest is worth a word."""


@dataclass(frozen=True)
class Opened:
    """A picture as the user gave it: 8-bit RGB or RGBA, and where it came from."""

    image: Image.Image
    source: Source


def open_pictures(pictures: Mapping[str, PictureSource]) -> dict[str, Opened]:
    """Open every view; raises ImageError naming the view that cannot be used."""
    opened = {}
    for view, source in pictures.items():
        try:
            image = open_picture(source)
        except ImageError as error:
            raise ImageError(f"{view} view: {error}" if len(pictures) > 1 else str(error)) from error
        opened[view] = Opened(image, Source(view, picture_hash(source), _path(source)))
    _check_shapes(opened)
    return opened


def picture_from_words(words: str, image: Image.Image) -> dict[str, Opened]:
    """The picture that was drawn from a prompt, as the front view."""
    return {"front": Opened(image, Source("prompt", sha256_of_bytes(words.encode()), words))}


def cut_out_pictures(
    opened: Mapping[str, Opened], options: JobOptions, nets: Nets | None = None
) -> dict[str, Image.Image]:
    """Each view reduced to the size cap and freed of its background, as RGBA.

    nets: the background networks, shared by the tasks of a run

    Opens the stage 'cutout' and keeps method and warnings in its record. Raises what ``cut_out`` raises.
    """
    views = {}
    with stage("cutout") as record:
        for warning in _doubts(opened):
            record.warn(warning)
        for view, picture in opened.items():
            check_cancelled()
            small = preprocess_image_size(picture.image, max_size=options.max_image_size)
            try:
                views[view], method, warnings = cut_out(
                    small,
                    mode=options.rembg,  # type: ignore[arg-type]
                    offline=options.offline,
                    nets=nets,
                    progress=partial(_fetching, record),
                )
            except ImageError as error:
                raise ImageError(f"{picture.source.path or view + ' view'}: {error}") from error
            record.figures[f"method_{view}"] = method
            record.figures[f"size_px_{view}"] = list(small.size)
            record.figures[f"reduced_{view}"] = small.size != picture.image.size
            record.progress(0, None)
            for warning in warnings:
                record.warn(warning)
    return views


def _fetching(record: StageRecord, done_bytes: int, total_bytes: int | None) -> None:
    """Progress of a background model's download, and the moment to stop it."""
    check_cancelled()
    record.progress(done_bytes // 1_000_000, None if total_bytes is None else total_bytes // 1_000_000, unit="MB")


def _check_shapes(opened: Mapping[str, Opened]) -> None:
    """Views of one object have one height; pictures of very different proportions are not views of one thing."""
    if len(opened) < 2:
        return
    aspects = {view: p.image.width / p.image.height for view, p in opened.items()}
    widest, narrowest = max(aspects, key=aspects.__getitem__), min(aspects, key=aspects.__getitem__)
    if aspects[widest] > 4 * aspects[narrowest]:
        raise ImageError(
            f"the {widest} view ({_size(opened[widest])}) and the {narrowest} view ({_size(opened[narrowest])}) have "
            "very different proportions; give views of the same object at the same scale, best all square"
        )


def _doubts(opened: Mapping[str, Opened]) -> Iterator[str]:
    """What is probably a mistake in a set of views: one picture for two sides, one that is tiny beside another."""
    first: dict[str, str] = {}
    for view, picture in opened.items():
        same = first.setdefault(picture.source.sha256, view)
        if same != view:
            yield f"the {same} view and the {view} view are the same picture; each side needs a picture of its own"
    largest = max(opened, key=lambda view: min(opened[view].image.size))
    for view, picture in opened.items():
        if _TINY * min(picture.image.size) < min(opened[largest].image.size):
            yield (
                f"the {view} view has {_size(picture)} pixels, the {largest} view {_size(opened[largest])}; that side "
                "will look blurred, a larger picture helps"
            )


def _size(picture: Opened) -> str:
    return f"{picture.image.width} x {picture.image.height}"


def _path(source: PictureSource) -> str | None:
    return str(source) if isinstance(source, (str, Path)) else None
