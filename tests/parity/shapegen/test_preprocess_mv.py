"""Several views through MVImageProcessorV2 against recorded results; the views come in another order."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hy3dgen.shapegen.preprocessors import MVImageProcessorV2
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("shapegen", "preprocess_mv"), ids=lambda p: p.stem)
def test_preprocess_mv(path: Path) -> None:
    vector = load(path)
    views = {tag: Image.fromarray(vector.inputs[tag].numpy()) for tag in vector.config["dict_order"]}
    result = MVImageProcessorV2(**vector.config["kwargs"])(views)
    assert list(result["view_idxs"]) == vector.outputs["view_idxs"].tolist()
    for key in ("image", "mask"):
        want = vector.outputs[key]
        assert result[key].shape == want.shape
        apart = (result[key] - want).abs()
        assert apart.max() <= 2.001 / 255 and (apart > 1e-6).float().mean() < 0.01, key
