"""Colour statistics of delighted pictures against recorded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.utils.dehighlight_utils import recorrect_rgb
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("texgen", "recorrect_rgb"), ids=lambda p: p.stem)
def test_recorrect_rgb(path: Path) -> None:
    vector = load(path)
    for i, case in enumerate(vector.config["cases"]):
        source, target, alpha = (
            vector.inputs[f"{i}.{name}"] for name in ("src_image", "target_image", "alpha_channel")
        )
        found = recorrect_rgb(source, target, alpha, case["scale"])
        torch.testing.assert_close(found, vector.outputs[str(i)], atol=1e-6, rtol=0)
        assert torch.equal(found[..., :3], source) == case["kept_source"]
