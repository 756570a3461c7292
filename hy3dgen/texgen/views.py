"""Which views are painted, and pictures made ready for painting. Angles and axes as in ``rendering.cameras``."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from hy3dgen.errors import ImageError, UsageError
from hy3dgen.images.load import open_picture

# elevation -> (azimuth steps of 30 degrees that share an index, first index): three rings of twelve, two poles of four
CAMERA_BANDS = {-20: (1, 0), 0: (1, 12), 20: (1, 24), -90: (3, 36), 90: (3, 40)}
WHITE = (255, 255, 255)


def camera_index(elevation_deg: int, azimuth_deg: int) -> int:
    """The paint network's number, 0 to 43, for a camera. Raises UsageError for an elevation that it was not taught."""
    if elevation_deg not in CAMERA_BANDS:
        raise UsageError(
            f"the paint network knows no camera at elevation {elevation_deg}; use one of {sorted(CAMERA_BANDS)} degrees"
        )
    divisor, first = CAMERA_BANDS[elevation_deg]
    return ((int(azimuth_deg // 30) + 9) % 12) // divisor + first


def recenter(image: Image.Image, border_ratio: float = 0.2) -> Image.Image:
    """Crop a cut-out picture to its object and give it a border, on a transparent white square.

    image: any mode. Pictures without transparency come back as RGB with their size unchanged. border_ratio: width of
    the border on each side, as a share of the object's width and height. Raises ImageError (a ValueError) when the
    picture is fully transparent.
    """
    if image.mode == "RGB":
        return image
    if image.mode != "RGBA":
        image = open_picture(image)
        if image.mode == "RGB":
            return image
    alpha = np.array(image.getchannel("A")) > 0
    if not alpha.any():
        raise ImageError("the picture is fully transparent; give a picture that shows an object")
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    crop = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    border_x, border_y = int(crop.width * border_ratio), int(crop.height * border_ratio)
    width, height = crop.width + 2 * border_x, crop.height + 2 * border_y
    side = max(width, height)
    centred = Image.new("RGBA", (side, side), (*WHITE, 0))
    centred.paste(crop, ((side - width) // 2 + border_x, (side - height) // 2 + border_y))
    return centred


def squared(image: Image.Image) -> Image.Image:
    """The picture in the middle of a white square, so that resizing does not stretch it; itself when it is square.

    image: RGB or RGBA (the new part is transparent white then).
    """
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    canvas = Image.new(image.mode, (side, side), WHITE if image.mode == "RGB" else (*WHITE, 0))
    canvas.paste(image, ((side - width) // 2, (side - height) // 2))
    return canvas


def flattened(image: Image.Image, size_px: int) -> Image.Image:
    """The picture on white, RGB, resized to a square of size_px: what painting takes when no light is removed."""
    if image.mode != "RGB":
        image = open_picture(image)
    if image.mode == "RGBA":
        on_white = Image.new("RGB", image.size, WHITE)
        on_white.paste(image, mask=image.getchannel("A"))
        image = on_white
    return squared(image).resize((size_px, size_px))


def resized(pictures: Sequence[Image.Image], size: tuple[int, int]) -> list[Image.Image]:
    """The pictures at (width, height), several at a time: twelve maps of 2048 px keep one core busy for a while."""
    if not len(pictures):
        return []
    with ThreadPoolExecutor(min(len(pictures), max(1, torch.get_num_threads()))) as pool:
        return list(pool.map(lambda picture: picture.resize(size), pictures))


def check_views(elevations: Sequence[float], azimuths: Sequence[float], weights: Sequence[float]) -> None:
    """Raise UsageError unless the three lists name the same, non-zero number of views."""
    if not len(elevations) or len({len(elevations), len(azimuths), len(weights)}) > 1:
        raise UsageError(
            f"a view needs an elevation, azimuth and weight, got {len(elevations)}, {len(azimuths)} and {len(weights)}"
        )
