"""Pictures made ready for painting."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hy3dgen.texgen.views import resized


def test_pictures_resized_at_once_are_those_resized_alone() -> None:
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)) for i in range(5)]
    found = resized(pictures, (24, 16))
    assert [np.asarray(p).tobytes() for p in found] == [np.asarray(p.resize((24, 16))).tobytes() for p in pictures]
    assert resized([], (24, 16)) == []
