"""The denoiser of the 2.1 model (pooling), against the reference."""

from pathlib import Path

import pytest

from tests.parity import vectors
from tests.parity.shapegen.hunyuandit import check


@pytest.mark.parametrize("path", vectors.files("shapegen", "hunyuandit_pooling"), ids=lambda p: p.stem)
def test_hunyuandit_pooling(path: Path) -> None:
    check(path)
