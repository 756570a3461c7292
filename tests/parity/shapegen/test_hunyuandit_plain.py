"""The denoiser of the 2.1 model (plain), against the reference."""

from pathlib import Path

import pytest

from tests.parity import vectors
from tests.parity.shapegen.hunyuandit import check


@pytest.mark.parametrize("path", vectors.files("shapegen", "hunyuandit_plain"), ids=lambda p: p.stem)
def test_hunyuandit_plain(path: Path) -> None:
    check(path)
