"""The resize kernels that the preprocessing depends on; fails when a new OpenCV changes its arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hy3dgen.shapegen.preprocessors import resize
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("shapegen", "resize_kernels_uint8"), ids=lambda p: p.stem)
def test_resize_kernels(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        name = f"case{case['case']}"
        image = vector.inputs[name].numpy()
        height, width = case["out_hw"]
        enlarging = height > image.shape[0] or width > image.shape[1]
        for kernel in ("nearest", "cubic", "area"):
            want = vector.outputs[f"{name}.{kernel}"].numpy().astype(int)
            apart = np.abs(resize(image, height, width, kernel).astype(int) - want)
            assert apart.max() <= 1, (name, kernel)
            if kernel == "nearest" or (kernel == "area" and enlarging):
                assert apart.max() == 0, (name, kernel)
            if kernel == "cubic":
                assert (apart > 0).mean() < 1e-3, name
