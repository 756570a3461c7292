"""What the preprocessors take and refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.errors import ImageError, UsageError
from hy3dgen.shapegen.preprocessors import ImageProcessorV2, MVImageProcessorV2, read_image


@pytest.fixture
def rgba() -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 4), dtype=np.uint8)
    image[..., 3] = 0
    image[8:30, 12:50, 3] = 255
    return image


def test_path_array_and_picture_agree(rgba: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "object.png"
    Image.fromarray(rgba).save(file)
    processor = ImageProcessorV2(size=32)
    want = processor(Image.fromarray(rgba))
    for given in (file, str(file), rgba, rgba.astype(np.uint16) * 257, rgba / 255.0):
        got = processor(given)
        assert torch.equal(got["image"], want["image"]) and torch.equal(got["mask"], want["mask"])


def test_inputs_are_not_changed(rgba: np.ndarray) -> None:
    before = rgba.copy()
    ImageProcessorV2(size=16)(rgba)
    assert np.array_equal(rgba, before)


def test_last_row_and_column_are_dropped_e8() -> None:
    """E8 is kept: the networks were trained on objects one pixel short in both directions."""
    image = np.zeros((20, 20, 4), dtype=np.uint8)
    image[5:15, 5:15] = 255
    image[14, 5:15, :3] = 0  # a black last row, which must not show
    rgb, mask = ImageProcessorV2.recenter(image, border_ratio=0.55)  # 9 of 20 pixels: no scaling
    assert (mask > 0).sum() == 81 and rgb.min() == 255


def test_missing_file_says_which_c16() -> None:
    """C16: a missing path inside a list failed as 'None has no attribute shape'."""
    with pytest.raises(ImageError, match=r"no/such\.png"):
        ImageProcessorV2()("no/such.png")
    with pytest.raises(ImageError, match=r"view 'left'.*no/such\.png"):
        MVImageProcessorV2()({"left": "no/such.png"})


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ImageError, match="damaged"):
        read_image(tmp_path / "half.png")
    with pytest.raises(ImageError, match="not a picture"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    "given", [None, torch.zeros(3, 8, 8), 7, np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4), np.int64)]
)
def test_unusable_values_are_named_c17(given: object) -> None:
    """C17: these crashed with unrelated messages (UnboundLocalError, OpenCV assertions)."""
    with pytest.raises(ImageError, match="expected"):
        ImageProcessorV2()(given)  # type: ignore[arg-type]


def test_float_pictures_must_be_in_range() -> None:
    with pytest.raises(ImageError, match="divide by 255"):
        read_image(np.full((4, 4, 3), 200.0))


def test_grey_16_bit_and_rotated_files_c17(tmp_path: Path) -> None:
    """C17: grey, 16-bit and EXIF-rotated files were mishandled."""
    ramp = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    grey, deep = read_image(tmp_path / "grey.png"), read_image(tmp_path / "deep.png")
    assert np.array_equal(grey[..., :3], deep[..., :3]) and np.array_equal(grey[..., 0], ramp)
    turned = Image.fromarray(ramp)
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "turned.png")[..., 0], np.rot90(ramp, -1))


def test_empty_pictures() -> None:
    with pytest.raises(ImageError, match="transparent"):
        ImageProcessorV2()(np.zeros((8, 8, 4), np.uint8))
    line = np.zeros((8, 8, 4), np.uint8)
    line[3, :, 3] = 255
    with pytest.raises(ImageError, match="empty"):
        ImageProcessorV2()(line)
    thin = np.zeros((300, 8, 4), np.uint8)
    thin[:, 3:5, 3] = 255
    with pytest.raises(ImageError, match="too thin"):
        ImageProcessorV2()(thin)
    with pytest.raises(UsageError, match="border_ratio"):
        ImageProcessorV2(border_ratio=1.0)(thin)


def test_views_are_sorted_and_arrays_work(rgba: np.ndarray) -> None:
    """E13's neighbour: to_tensor=False failed for several views."""
    result = MVImageProcessorV2(size=24)({"right": rgba, "front": rgba[:, ::-1]}, to_tensor=False)
    assert (
        result["view_idxs"] == (0, 3) and result["image"].shape == (2, 24, 24, 3) and result["mask"].dtype == np.uint8
    )
    with pytest.raises(UsageError, match="unknown view 'top'"):
        MVImageProcessorV2()({"top": rgba})
    with pytest.raises(ImageError, match="at least one view"):
        MVImageProcessorV2()({})
