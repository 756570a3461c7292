"""Sets of views that are probably a mistake are worked with, and told."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.pictures import cut_out_pictures, open_pictures
from hy3dgen.runtime.stages import recording


def square(side_px: int, red: int) -> Image.Image:
    pixels = np.zeros((side_px, side_px, 4), np.uint8)
    pixels[side_px // 4 : -side_px // 4, side_px // 4 : -side_px // 4] = (red, 40, 40, 255)
    return Image.fromarray(pixels)


def warnings(**views: Image.Image) -> list[str]:
    with recording(device=torch.device("cpu")) as run:
        cut_out_pictures(open_pictures(views), JobOptions())
    return [words for record in run.stages for words in record.warnings]


def test_one_picture_for_two_sides_is_told() -> None:
    """The front picture given as the left one, too, coloured both sides alike without a word."""
    [told] = warnings(front=square(64, 200), left=square(64, 200), back=square(64, 90))
    assert "the front view and the left view are the same picture" in told


def test_a_view_that_is_tiny_beside_another_is_told() -> None:
    """A thumbnail among large pictures gave one blurred side without a word."""
    [told] = warnings(front=square(256, 200), left=square(32, 90))
    assert "the left view has 32 x 32 pixels, the front view 256 x 256" in told


def test_good_views_and_a_single_picture_pass_in_silence() -> None:
    assert warnings(front=square(128, 200), left=square(96, 90)) == []
    assert warnings(front=square(32, 200)) == []
