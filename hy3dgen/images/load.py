"""Any picture a user may hand over, as one PIL image in RGB or RGBA; or a sentence that says why it cannot be used.

Does not know what the picture is for: no cut-out, no resizing.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hy3dgen.errors import ImageError

PictureSource = str | Path | bytes | Image.Image | np.ndarray

MAX_PIXELS = 80_000_000  # below the size at which Pillow starts to warn; a 48-megapixel phone camera fits
MIN_SIDE_PX = 8
EMPTY_ALPHA = 8  # alpha below this everywhere leaves nothing to see

# Formats decoded by Pillow itself. EPS and the like are left out: Pillow hands those to external programs.
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "TGA", "ICO", "JPEG2000", "DDS", "PCX")

# What Pillow's decoders raise on damaged data besides OSError; found by feeding them noise.
_DAMAGED = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError,
    AssertionError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def open_picture(source: PictureSource) -> Image.Image:
    """Open a picture in any common form as 8-bit RGB, or RGBA when it has transparency.

    source: a path, the bytes of an image file, a PIL image in any mode, or an array (H, W), (H, W, 1), (H, W, 3) or
        (H, W, 4): uint8, uint16 (scaled by 1/257), bool, or float in [0, 1] (in [0, 255] when a value exceeds 1.5).
    EXIF rotation is applied, an animation gives its first frame (a PIL image its current one), 16-bit and float
    pictures are scaled to 8 bits.
    The argument is never changed; the result is a new image.
    Raises ImageError: missing file, directory, pipe or device, not a picture, truncated, more than MAX_PIXELS (seen in
    the header, before anything is decoded), a side under MIN_SIDE_PX, fully transparent.
    """
    if isinstance(source, Image.Image):
        name, image = "the picture", source
    elif isinstance(source, np.ndarray):
        name, image = "the array", _from_array(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        name, image = "the picture", _open(io.BytesIO(bytes(source)), "the picture")
    elif isinstance(source, (str, Path)):
        name, image = _open_path(Path(source))
    else:
        raise ImageError(
            f"a picture must be a path, bytes, a PIL image or a numpy array, but this is {type(source).__name__}"
        )
    try:
        _check_size(image, name)
        image.load()  # an animation that was just opened stands at its first frame
        picture = _to_8_bit(ImageOps.exif_transpose(image))
    except _DAMAGED as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name} is damaged or truncated ({error}); export or download it again") from error
    finally:
        if image is not source:  # Pillow keeps the file of what it has not decoded to the end
            image.close()
    _check_visible(picture, name)
    return picture


def _open_path(path: Path) -> tuple[str, Image.Image]:
    name = f"'{path}'"
    if path.is_dir():
        raise ImageError(f"{name} is a folder, not a picture; give one picture file")
    if not path.exists():
        raise ImageError(f"{name} does not exist; check the path of the input picture")
    if not path.is_file():  # a pipe would wait for a writer, a device might never end
        raise ImageError(f"{name} is not a file but a device, pipe or socket; give a picture file")
    return name, _open(path, name)


def _open(file: Path | io.BytesIO, name: str) -> Image.Image:
    """Read the header only; pixels are decoded later."""
    try:
        return Image.open(file, formats=FORMATS)
    except _BOMB as error:
        raise ImageError(_too_large(name, "more pixels than any camera makes")) from error
    except PermissionError as error:
        raise ImageError(f"{name} cannot be read: permission denied") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{name} is not a picture in a known format; use PNG, JPEG, WebP, TIFF or BMP") from error
    except _DAMAGED as error:
        raise ImageError(f"{name} is damaged or truncated ({error}); export or download it again") from error


def _too_large(name: str, size: str) -> str:
    return f"{name} is too large: {size}; at most {MAX_PIXELS // 1_000_000} megapixels are accepted, make it smaller"


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(name, f"{width} x {height} pixels"))
    if min(width, height) < MIN_SIDE_PX:
        raise ImageError(
            f"{name} is too small: {width} x {height} pixels; at least {MIN_SIDE_PX} x {MIN_SIDE_PX} are needed, "
            "256 or more are useful"
        )


def _check_visible(picture: Image.Image, name: str) -> None:
    if picture.mode == "RGBA" and int(np.asarray(picture.getchannel("A")).max()) < EMPTY_ALPHA:
        raise ImageError(f"{name} is fully transparent; give a picture that shows an object")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """A new RGB or RGBA image from any Pillow mode."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _from_array(_numbers(image)).convert("RGB")
    transparent = mode in _ALPHA_MODES or "transparency" in image.info
    target = "RGBA" if transparent else "RGB"
    if mode == target:
        return image.copy()
    if mode in ("La", "PA"):  # Pillow converts these only by way of their neighbours
        image = image.convert({"La": "LA", "PA": "RGBA"}[mode])
    return image.convert(target)


def _numbers(image: Image.Image) -> np.ndarray:
    """The values of a 16-bit, 32-bit or float image as uint16 or float32."""
    values = np.asarray(image)
    if image.mode == "F":
        return values.astype(np.float32)
    # mode 'I' is what Pillow makes of some 16-bit files; a true 32-bit picture keeps its highest 16 bits
    values = np.clip(values.astype(np.int64), 0, None)
    return (values >> 16 if values.max() > 0xFFFF else values).astype(np.uint16)


def _from_array(array: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) numbers to an 8-bit image."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"an array of shape {array.shape} is not a picture; expected (height, width), (height, width, 3) or "
            "(height, width, 4)"
        )
    return Image.fromarray(np.ascontiguousarray(_array_to_uint8(array)))


def _array_to_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(f"an array of {array.dtype} is not a picture; use uint8, or float in [0, 1]")
    if not np.isfinite(array).all():
        raise ImageError("the array holds NaN or Inf; a picture needs values in [0, 1]")
    scale = 1.0 if array.max() > 1.5 else 255.0
    return np.rint(np.clip(array.astype(np.float64) * scale, 0, 255)).astype(np.uint8)
