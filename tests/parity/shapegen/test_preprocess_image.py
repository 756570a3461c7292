"""Single pictures through ImageProcessorV2 against recorded results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.shapegen.preprocessors import ImageProcessorV2
from tests.parity.vectors import files, load


def assert_bytes_close(got: np.ndarray, want: torch.Tensor, what: str) -> None:
    apart = np.abs(got.astype(int) - want.numpy().astype(int))
    assert got.shape == tuple(want.shape), what
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01, (what, apart.max(), (apart > 0).mean())


@pytest.mark.parametrize("path", files("shapegen", "preprocess_image"), ids=lambda p: p.stem)
def test_preprocess_image(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        name = f"case{case['case']}"
        mode = "rgba" if f"{name}.rgba" in vector.inputs else "rgb"
        array = vector.inputs[f"{name}.{mode}"].numpy()
        picture = Image.fromarray(array)
        processor = ImageProcessorV2(size=case["size"], border_ratio=case["border_ratio"])
        out = {k.removeprefix(name + "."): v for k, v in vector.outputs.items() if k.startswith(name + ".")}

        tensors = processor(picture, border_ratio=case["call_border_ratio"])
        for key in ("image", "mask"):
            assert tensors[key].dtype == torch.float32 and tensors[key].shape == out[key].shape
            apart = (tensors[key] - out[key]).abs()
            assert apart.max() <= 2.001 / 255 and (apart > 1e-6).float().mean() < 0.01, (name, key)
        if "image_uint8" in out:
            arrays = processor(picture, border_ratio=case["call_border_ratio"], to_tensor=False)
            assert_bytes_close(arrays["image"], out["image_uint8"], f"{name} image")
            assert_bytes_close(arrays["mask"], out["mask_uint8"], f"{name} mask")
        if "recentered" in out:
            ratio = case["call_border_ratio"] if case["border_ratio"] is None else case["border_ratio"]
            rgb, mask = ImageProcessorV2.recenter(array, border_ratio=ratio)
            assert_bytes_close(rgb, out["recentered"], f"{name} recentered")
            assert_bytes_close(mask, out["recentered_mask"], f"{name} recentered mask")
