"""The denoiser of the 2.1 model (decoupled), against the reference."""

from pathlib import Path

import pytest

from tests.parity import vectors
from tests.parity.shapegen.hunyuandit import check


@pytest.mark.parametrize("path", vectors.files("shapegen", "hunyuandit_decoupled"), ids=lambda p: p.stem)
def test_hunyuandit_decoupled(path: Path) -> None:
    check(path)
