"""A picture of one object becomes what the image encoder was trained on: centred, white ground, square, in [-1, 1].

Sizes and roundings follow the published networks' training, including the dropped last row and column of the
object. Resizing is OpenCV's 8-bit arithmetic, which the recorded numbers were made with. Background removal is not
done here: a picture without transparency counts as all object.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from hy3dgen.errors import ImageError, UsageError

__all__ = ["ImageProcessorV2", "MVImageProcessorV2", "array_to_tensor", "IMAGE_PROCESSORS", "DEFAULT_IMAGEPROCESSOR"]

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"

RESIZE_KERNELS = {"area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}


def array_to_tensor(array: np.ndarray) -> torch.Tensor:
    """(h, w, c) uint8 -> (1, c, h, w) float32 in [-1, 1]."""
    scaled = torch.from_numpy(np.ascontiguousarray(array)).float() / 255 * 2 - 1
    return scaled.permute(2, 0, 1)[None].contiguous()


def resize(image: np.ndarray, height: int, width: int, kernel: str) -> np.ndarray:
    """(h, w, c) uint8 -> (height, width, c) uint8; kernel is 'area', 'cubic' or 'nearest', without antialiasing."""
    resized = cv2.resize(image, (width, height), interpolation=RESIZE_KERNELS[kernel])
    return resized.reshape(height, width, image.shape[2])  # OpenCV drops a channel axis of 1


def read_image(image: ImageLike) -> np.ndarray:
    """(h, w, 3 or 4) uint8 in RGB(A) order from a path, a PIL image or an array.

    Files are turned upright by their EXIF orientation; grey, palette and 16-bit pictures are converted. Arrays are
    (h, w) grey, (h, w, 1), (h, w, 3) RGB or (h, w, 4) RGBA; uint8, uint16 or float in [0, 1].
    Raises ImageError for anything else, and for a missing or unreadable file.
    """
    if isinstance(image, (str, os.PathLike)):
        return _pil_to_array(_open(os.fspath(image)))
    if isinstance(image, Image.Image):
        return _pil_to_array(image)
    if isinstance(image, np.ndarray):
        return _as_rgb_array(image)
    raise ImageError(
        f"a picture was given as {type(image).__name__}; "
        "expected a file path, a PIL image or a numpy array (h, w, 3 or 4)"
    )


def _open(path: str) -> Image.Image:
    if not os.path.isfile(path):
        raise ImageError(f"no picture at '{path}': {'this is a folder' if os.path.isdir(path) else 'no such file'}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                return ImageOps.exif_transpose(file)
    except UnidentifiedImageError as error:
        raise ImageError(f"'{path}' is not a picture that can be read; use PNG, JPEG or WebP") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"'{path}' is too large: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's decoders raise all three on damaged files
        raise ImageError(f"'{path}' is damaged: {error}") from error


def _pil_to_array(image: Image.Image) -> np.ndarray:
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        array = np.asarray(image)
        return _as_rgb_array(array if image.mode == "F" else array.clip(0, 65535).astype(np.uint16))
    return np.asarray(image.convert("RGBA"))


def _as_rgb_array(array: np.ndarray) -> np.ndarray:
    """Grey, float and 16-bit arrays as (h, w, 3 or 4) uint8."""
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in shape:
        raise ImageError(f"an array of shape {shape} is not a picture; expected (h, w), (h, w, 3) or (h, w, 4)")
    if array.dtype == np.uint16:
        array = np.round(array / 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise ImageError("a float picture must be finite and in [0, 1]; divide by 255 if its values go to 255")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        raise ImageError(f"a picture array has dtype {array.dtype}; expected uint8, uint16 or float in [0, 1]")
    return np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array


class ImageProcessorV2:
    """Centre an object on white and scale the picture to ``size`` × ``size`` pixels.

    border_ratio: share of the side left empty around the object; set here it overrides that of a call.
    """

    def __init__(self, size: int = 512, border_ratio: float | None = None) -> None:
        self.size = size
        self.border_ratio = border_ratio

    @staticmethod
    def recenter(image: np.ndarray, border_ratio: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
        """Cut the object out, scale it to ``1 - border_ratio`` of the longer side and centre it on white.

        image: (h, w, 3 or 4) uint8; without alpha everything is object.
        Returns (rgb, mask), (L, L, 3) and (L, L, 1) uint8 with L = max(h, w).
        Raises ImageError when nothing is opaque, or when the object is too thin to be scaled.
        """
        if image.shape[2] == 3:
            opaque = np.full((*image.shape[:2], 1), 255, dtype=np.uint8)
            image = np.concatenate([image, opaque], axis=2)
        side = max(image.shape[:2])
        rows, columns = np.nonzero(image[..., 3])
        if len(rows) == 0:
            raise ImageError("input image is empty: every pixel is transparent; background removal found no object")
        top, bottom, left, right = int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
        # One less than the pixel count: the last row and column of the object are left out. The published
        # networks were trained on pictures made this way.
        height, width = bottom - top, right - left
        if height == 0 or width == 0:
            raise ImageError(f"input image is empty: its object is only {width + 1}x{height + 1} pixels")
        desired = int(side * (1 - border_ratio))
        scale = desired / max(height, width)
        new_height, new_width = int(height * scale), int(width * scale)
        if new_height < 1 or new_width < 1:
            raise ImageError(
                f"the object ({width + 1}x{height + 1} pixels) is too thin to be scaled to {desired} pixels "
                f"with border_ratio={border_ratio}"
            )
        canvas = np.zeros((side, side, 4), dtype=np.uint8)
        y, x = (side - new_height) // 2, (side - new_width) // 2
        canvas[y : y + new_height, x : x + new_width] = resize(
            np.ascontiguousarray(image[top:bottom, left:right]), new_height, new_width, "area"
        )
        alpha = canvas[..., 3:].astype(np.float32) / 255
        blended = canvas[..., :3] * alpha + np.float32(255) * (1 - alpha)
        return blended.clip(0, 255).astype(np.uint8), (alpha * 255).clip(0, 255).astype(np.uint8)

    def load_image(self, image: ImageLike, border_ratio: float = 0.15, to_tensor: bool = True) -> tuple[Any, Any]:
        """(image, mask) of one picture; shapes as in ``__call__``. Here ``border_ratio`` is taken as given."""
        if not 0 <= border_ratio < 1 or not math.isfinite(border_ratio):
            raise UsageError(f"border_ratio is {border_ratio}; expected 0 up to but not including 1")
        rgb, mask = self.recenter(read_image(image), border_ratio=border_ratio)
        rgb = resize(rgb, self.size, self.size, "cubic")
        mask = resize(mask, self.size, self.size, "nearest")
        return (array_to_tensor(rgb), array_to_tensor(mask)) if to_tensor else (rgb, mask)

    def __call__(self, image: ImageLike, border_ratio: float = 0.15, to_tensor: bool = True) -> dict[str, Any]:
        """{'image': (1, 3, S, S), 'mask': (1, 1, S, S)} float32 in [-1, 1], mask -1 outside the object.

        image: what ``read_image`` takes. With to_tensor=False: uint8 arrays (S, S, 3) and (S, S, 1).
        Raises ImageError for a picture that cannot be read or holds no object.
        """
        if self.border_ratio is not None:
            border_ratio = self.border_ratio
        rgb, mask = self.load_image(image, border_ratio=border_ratio, to_tensor=to_tensor)
        return {"image": rgb, "mask": mask}


class MVImageProcessorV2(ImageProcessorV2):
    """The same for up to four views of one object, in words: front, then turning clockwise: left, back, right."""

    view2idx = {"front": 0, "left": 1, "back": 2, "right": 3}  # noqa: RUF012 - public name, read by callers
    return_view_idx = True

    def __call__(  # type: ignore[override]  # a mapping of views instead of one picture, as published
        self, image_dict: Mapping[str, ImageLike], border_ratio: float = 0.15, to_tensor: bool = True
    ) -> dict[str, Any]:
        """{'image': (1, V, 3, S, S), 'mask': (1, V, 1, S, S), 'view_idxs': V ascending indices}.

        image_dict: view name -> picture. With to_tensor=False: uint8 arrays (V, S, S, 3) and (V, S, S, 1).
        Raises UsageError for an unknown view name, ImageError for no views or an unusable picture.
        """
        if not isinstance(image_dict, Mapping) or not image_dict:
            raise ImageError(
                "several views are given as {'front': picture, …} with at least one view; "
                f"got {'no views' if isinstance(image_dict, Mapping) else type(image_dict).__name__}"
            )
        unknown = [tag for tag in image_dict if tag not in self.view2idx]
        if unknown:
            raise UsageError(f"unknown view '{unknown[0]}'; views are {', '.join(self.view2idx)}")
        images, masks, indices = [], [], []
        for tag in sorted(image_dict, key=self.view2idx.__getitem__):
            try:
                single = super().__call__(image_dict[tag], border_ratio=border_ratio, to_tensor=to_tensor)
            except ImageError as error:
                raise ImageError(f"view '{tag}': {error}") from error
            images.append(single["image"])
            masks.append(single["mask"])
            indices.append(self.view2idx[tag])
        if not to_tensor:
            return {"image": np.stack(images), "mask": np.stack(masks), "view_idxs": tuple(indices)}
        image, mask = torch.cat(images)[None], torch.cat(masks)[None]
        return {"image": image, "mask": mask, "view_idxs": tuple(indices)}


IMAGE_PROCESSORS = {"v2": ImageProcessorV2, "mv_v2": MVImageProcessorV2}
DEFAULT_IMAGEPROCESSOR = "v2"
