"""open_picture takes every common form and refuses the rest with a sentence."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hy3dgen.errors import ImageError
from hy3dgen.images import load
from hy3dgen.images.load import open_picture
from hy3dgen.jobs.identity import picture_hash

SIZE = (24, 16)  # width, height


def gradient(mode: str = "RGB") -> Image.Image:
    values = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    values[..., 0] = np.linspace(0, 255, SIZE[0])
    values[..., 1] = np.linspace(0, 255, SIZE[1])[:, None]
    return Image.fromarray(values).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("RGB", "PNG", "RGB"),
        ("L", "PNG", "RGB"),
        ("1", "PNG", "RGB"),
        ("LA", "PNG", "RGBA"),
        ("P", "PNG", "RGB"),
        ("RGBA", "PNG", "RGBA"),
        ("CMYK", "JPEG", "RGB"),
        ("RGB", "WEBP", "RGB"),
        ("RGBA", "TIFF", "RGBA"),
        ("RGB", "BMP", "RGB"),
    ],
)
def test_modes(mode: str, kind: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(saved(gradient(mode), kind))
    for source in (path, str(path), path.read_bytes(), gradient(mode)):
        picture = open_picture(source)
        assert picture.mode == expected
        assert picture.size == SIZE
    reference = np.asarray(gradient(mode).convert("RGB"), int)
    tolerance = 60 if kind in ("JPEG", "WEBP") else 0
    assert np.abs(np.asarray(open_picture(path).convert("RGB"), int) - reference).max() <= tolerance


def test_palette_with_transparency() -> None:
    image = gradient("P")
    picture = open_picture(saved(image, "PNG", transparency=image.getpixel((0, 0))))
    assert picture.mode == "RGBA"
    assert picture.getpixel((0, 0))[3] == 0
    assert picture.getchannel("A").getextrema() == (0, 255)


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_odd_alpha_modes_of_pil_images(mode: str) -> None:
    half = gradient("RGBA")
    half.putalpha(Image.linear_gradient("L").resize(SIZE))
    image = {"PA": lambda: half.convert("P").convert("PA"), "La": lambda: half.convert("LA").convert("La")}.get(
        mode, lambda: half.convert("RGBa")
    )()
    assert open_picture(image).mode == "RGBA"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_is_scaled_not_clipped(kind: str) -> None:
    values = np.linspace(0, 65535, 24 * 16).reshape(16, 24).astype(np.uint16)
    picture = open_picture(saved(Image.fromarray(values), kind))
    expected = np.rint(values / 257.0)
    assert np.abs(np.asarray(picture, float)[..., 0] - expected).max() <= 1
    assert picture.getextrema()[0] == (0, 255)


def test_float_arrays_and_images() -> None:
    unit = np.linspace(0, 1, 24 * 16 * 3).reshape(16, 24, 3)
    from_unit = np.asarray(open_picture(unit))
    assert from_unit.max() == 255 and from_unit.min() == 0
    assert np.array_equal(from_unit, np.asarray(open_picture((unit * 255).astype(np.float32))))
    floating = open_picture(Image.fromarray(unit[..., 0].astype(np.float32)))  # mode F
    assert floating.mode == "RGB" and floating.getextrema()[0] == (0, 255)
    assert open_picture(np.ones((16, 24, 4)) * 0.5).mode == "RGBA"
    assert np.asarray(open_picture(np.eye(16, dtype=bool))).max() == 255


def test_exif_rotation_is_applied() -> None:
    image = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to see it upright
    picture = open_picture(saved(image, "PNG", exif=exif))
    assert picture.size == (SIZE[1], SIZE[0])
    assert np.array_equal(np.asarray(picture), np.rot90(np.asarray(image), -1))


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", SIZE, colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(data).convert("RGB").getpixel((3, 3)) == (255, 0, 0)


def test_argument_is_not_changed() -> None:
    image = gradient("P")
    before = image.tobytes()
    picture = open_picture(image)
    picture.paste((1, 2, 3), (0, 0, 9, 9))
    assert image.mode == "P" and image.tobytes() == before
    rgb = gradient()
    open_picture(rgb).paste((1, 2, 3), (0, 0, 9, 9))
    assert np.array_equal(np.asarray(rgb), np.asarray(gradient()))


def truncated_png(tmp_path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return saved(Image.fromarray(noise), "PNG")[:3000]


def truncated_jpeg(tmp_path: Path) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    return saved(Image.fromarray(noise), "JPEG")[:1500]


def transparent(tmp_path: Path) -> Image.Image:
    return Image.new("RGBA", (32, 32), (200, 10, 10, 0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.png", "does not exist"),
        (lambda folder: folder, "is a folder"),
        (lambda folder: b"this is not a picture", "known format"),
        (lambda folder: b"", "known format"),
        (truncated_png, "truncated"),
        (truncated_jpeg, "truncated"),
        (lambda folder: Image.new("RGB", (1, 1)), "too small"),
        (lambda folder: Image.new("RGB", (500, 3)), "too small"),
        (transparent, "fully transparent"),
        (lambda folder: None, "NoneType"),
        (lambda folder: np.zeros((4, 4, 4, 4)), "shape"),
        (lambda folder: np.zeros((0, 4, 3)), "shape"),
        (lambda folder: np.full((16, 16, 3), np.nan), "NaN"),
        (lambda folder: np.full((16, 16), 1j), "complex"),
        (lambda folder: np.full((16, 16), 70000), "int64"),
    ],
)
def test_refusals(make: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=words):
        open_picture(make(tmp_path))  # type: ignore[operator]


def test_postscript_is_not_handed_to_other_programs() -> None:
    with pytest.raises(ImageError, match="known format"):
        open_picture(saved(gradient(), "EPS"))


def test_bomb_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header alone must be enough: the pixels of a 400-megapixel PNG were never there."""
    header = saved(Image.new("L", (8, 8)), "PNG")
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0)
    bomb = header[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + header[33:]
    small = saved(gradient(), "PNG")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="too large"):
        open_picture(bomb)
    monkeypatch.setattr(load, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="24 x 16"):
        open_picture(small)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on damaged TIFF tags
@given(st.binary(max_size=400), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_damaged_files_raise_nothing_else(noise: bytes, kind: str, place: int) -> None:
    data = saved(gradient(), kind)
    try:
        picture = open_picture(data[:place] + noise + data[place + len(noise) :])
    except ImageError:
        return
    assert picture.mode in ("RGB", "RGBA")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_and_a_device_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="not a file"):
            open_picture(path)
        with pytest.raises(ImageError, match="not a file"):
            picture_hash(path)
