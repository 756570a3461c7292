"""A small cut-out picture for tests: a two-coloured mug-like shape on a transparent background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

# Nano with as little work as still gives a mesh.
QUICK = ("--octree-resolution", "24", "--steps", "2", "--texture-size", "128", "--device", "cpu")
QUICK_OPTIONS = {"octree_resolution": 24, "steps": 2, "texture_size": 128, "device": "cpu"}


def draw_mug(colour: tuple[int, int, int] = (200, 60, 40)) -> Image.Image:
    """RGBA, 192 x 192."""
    image = Image.new("RGBA", (192, 192), (0, 0, 0, 0))
    pen = ImageDraw.Draw(image)
    pen.ellipse((120, 60, 175, 130), outline=(90, 90, 90, 255), width=12)
    pen.rounded_rectangle((40, 40, 140, 160), 16, fill=(*colour, 255))
    pen.rectangle((40, 90, 140, 110), fill=(240, 230, 200, 255))
    return image


def save_mug(path: Path, colour: tuple[int, int, int] = (200, 60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_mug(colour).save(path)
    return path


def differs(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two pictures, 0 to 255."""
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
