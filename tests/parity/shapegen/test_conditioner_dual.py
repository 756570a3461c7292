"""Picture encoders (dual), against the reference."""

from pathlib import Path

import pytest

from tests.parity import vectors
from tests.parity.shapegen.conditioner import check


@pytest.mark.parametrize("path", vectors.files("shapegen", "conditioner_dual"), ids=lambda p: p.stem)
def test_conditioner_dual(path: Path) -> None:
    check(path)
