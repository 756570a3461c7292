"""Crop and border of cut-out pictures against recorded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hy3dgen.texgen.views import recenter
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("texgen", "recenter_image"), ids=lambda p: p.stem)
def test_recenter_image(path: Path) -> None:
    vector = load(path)
    for i, case in enumerate(vector.config["cases"]):
        image = Image.fromarray(vector.inputs[f"{i}.image"].numpy())
        assert image.mode == case["mode"]
        result = recenter(image, case["border_ratio"])
        assert result.mode == case["out_mode"]
        assert np.array_equal(np.array(result), vector.outputs[f"{i}.image"].numpy())


def test_fully_transparent() -> None:
    with pytest.raises(ValueError, match="transparent"):
        recenter(Image.new("RGBA", (20, 20), (1, 2, 3, 0)))
