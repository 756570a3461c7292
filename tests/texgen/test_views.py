"""Pictures made ready for painting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.texgen.views import resized


def test_pictures_resized_at_once_are_those_resized_alone() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)) for i in range(5)]
    found = resized(pictures, (24, 16))
    assert [np.asarray(p).tobytes() for p in found] == [np.asarray(p.resize((24, 16))).tobytes() for p in pictures]
    assert resized([], (24, 16)) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_maps_become_the_reference_formulas_numbers_bit_for_bit(mode: str) -> None:
    """They are made faster than by the formula: every byte value, and every alpha, to float32, over white, to half."""
    from hy3dgen.texgen.hunyuanpaint.pipeline import _control_stack

    grid = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"), axis=-1).astype(np.uint8)
    pixels = np.concatenate([grid, 255 - grid[..., :1], grid[..., 1:]], axis=-1)[..., : len(mode)]
    values = pixels.astype(np.float32) / 255.0
    if mode == "RGBA":
        values = values[..., :3] * values[..., 3:] + (1.0 - values[..., 3:])
    wanted = torch.from_numpy(values).permute(2, 0, 1).to(torch.float16)
    found = _control_stack([[Image.fromarray(pixels)] * 2])
    assert found.shape == (1, 2, 3, 256, 256) and found.dtype == torch.float16
    assert torch.equal(found[0, 0], wanted) and torch.equal(found[0, 1], wanted)
