"""Which pixels of a picture are the object: its own alpha, else a network, else colours seen at the border.

The order is decided here and nowhere else: already cut out, model on this machine, download, GrabCut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from PIL import Image

from hy3dgen.errors import ImageError, MissingExtraError, UsageError, WeightsDamagedError, WeightsNotFoundError

if TYPE_CHECKING:
    from hy3dgen.images.fetch import Progress
    from hy3dgen.images.matting import Nets

Mode = Literal["auto", "cpu", "gpu", "off"]

CLEAR_BELOW = 250  # alpha under this counts as transparent when asking whether a picture is cut out
CUT_OUT_SHARE = 0.01
MIN_OBJECT_SHARE = 0.001


def is_cut_out(image: Image.Image) -> bool:
    """True when at least 1 % of the picture's alpha is under 250; False without transparency."""
    if image.mode in ("P", "PA", "La", "RGBa") or (image.mode in ("L", "RGB", "1") and "transparency" in image.info):
        image = image.convert("RGBA")
    if "A" not in image.getbands():
        return False
    return _clear_share(np.asarray(image.getchannel("A"))) >= CUT_OUT_SHARE


def cut_out(
    image: Image.Image,
    *,
    mode: Mode = "auto",
    offline: bool = False,
    nets: Nets | None = None,
    progress: Progress | None = None,
) -> tuple[Image.Image, str, list[str]]:
    """Give the picture an alpha channel that is opaque on the object only.

    image: RGB or RGBA as from ``open_picture``
    mode: 'auto' = a network on the CPU when there is one, else GrabCut; 'cpu', 'gpu' = a network there or an error;
        'off' = leave the picture as it is
    offline: never download
    nets: networks that several pictures share, with their own ``offline``; None for this picture alone
    progress: called with (bytes done, bytes in all) during a download; what it raises ends it
    Returns (RGBA picture, method, warnings). The method is 'alpha' (was cut out already, pixels untouched), 'off',
    'u2net', 'u2netp' or 'grabcut'; pixels outside the object are (255, 255, 255, 0); warnings are sentences.
    Raises ImageError when nothing or everything would be object, WeightsNotFoundError ('cpu', 'gpu': no model and no
    way to get one), WeightsDamagedError, MissingExtraError ('gpu' without an accelerated onnxruntime), UsageError.
    """
    if mode not in get_args(Mode):
        raise UsageError(f"unknown background removal mode '{mode}'; use one of {', '.join(get_args(Mode))}")
    if is_cut_out(image):
        return image.convert("RGBA"), "alpha", []
    if mode == "off":
        whole = "the picture has no transparent background and background removal is off: all of it is taken as object"
        return image.convert("RGBA"), "off", [whole]
    picture = image.convert("RGB")
    if nets is None:
        from hy3dgen.images.matting import Nets

        nets = Nets(offline=offline)
    if mode != "auto":
        result, name = _by_network(picture, nets, gpu=mode == "gpu", progress=progress)
        return _checked(result), name, []
    try:
        result, name = _by_network(picture, nets, gpu=False, progress=progress)
        return _checked(result), name, []
    except (WeightsNotFoundError, WeightsDamagedError, MissingExtraError, ImageError) as error:
        from hy3dgen.images.grabcut import segment

        return _checked(segment(picture)), "grabcut", [_why_grabcut(error)]


def white_outside(picture: Image.Image) -> Image.Image:
    """A copy of an RGBA picture whose fully transparent pixels are (255, 255, 255, 0)."""
    pixels = np.array(picture.convert("RGBA"))
    pixels[pixels[..., 3] == 0] = (255, 255, 255, 0)
    return Image.fromarray(pixels)


def _by_network(picture: Image.Image, nets: Nets, *, gpu: bool, progress: Progress | None) -> tuple[Image.Image, str]:
    net = nets.get(gpu=gpu, progress=progress)
    result = picture.convert("RGBA")
    result.putalpha(net.mask(picture))
    return white_outside(result), net.model_name


def _why_grabcut(error: Exception) -> str:
    from hy3dgen.images.matting import HOW_TO_GET

    if isinstance(error, ImageError):
        return f"the background model found no object ({error}); the background was removed by its colours instead"
    found = "no background removal model was found" if isinstance(error, WeightsNotFoundError) else str(error)
    return f"{found}: the background was removed by its colours, which needs a plain one; {HOW_TO_GET}"


def _checked(picture: Image.Image) -> Image.Image:
    """Raise ImageError for a cut-out that kept everything or nothing."""
    alpha = np.asarray(picture.getchannel("A"))
    if _clear_share(alpha) < CUT_OUT_SHARE:
        raise ImageError(
            "no background could be told from the object; give a picture with a plain or transparent background "
            "around the object"
        )
    if float((alpha > 127).mean()) < MIN_OBJECT_SHARE:
        raise ImageError("no object could be told from the background; give a picture that shows one object clearly")
    return picture


def _clear_share(alpha: np.ndarray) -> float:
    return float((alpha < CLEAR_BELOW).mean())
