"""The size cap on input pictures. Saves host memory and time; networks resize again to what they were trained on."""

from __future__ import annotations

from PIL import Image

from hy3dgen.errors import UsageError


def preprocess_image_size(image: Image.Image, max_size: int = 1024) -> Image.Image:
    """Shrink a picture so that its longer side is at most ``max_size`` pixels; never enlarge.

    image: any mode that Pillow can resample; palette and bilevel pictures come back as RGB or RGBA
    Returns the same object when it is small enough, else a new one with the same aspect (each side at least 1 px).
    LANCZOS; with transparency the colours are weighted by alpha, so that hidden pixels leave no dark fringe.
    Raises UsageError when max_size is not positive.
    """
    if max_size < 1:
        raise UsageError(f"the largest picture side must be at least 1 pixel, but {max_size} was given")
    longest = max(image.size)
    if longest <= max_size:
        return image
    if image.mode in ("P", "PA", "1"):
        has_alpha = image.mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha else "RGB")
    width, height = (max(1, round(side * max_size / longest)) for side in image.size)
    # Pillow resamples RGBA and LA premultiplied (modes RGBa, La) and divides by alpha again
    return image.resize((width, height), Image.Resampling.LANCZOS)
