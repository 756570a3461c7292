"""The paint network's camera numbers against the recorded table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hy3dgen.errors import UsageError
from hy3dgen.texgen.views import camera_index
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("texgen", "camera_index"), ids=lambda p: p.stem)
def test_camera_index(path: Path) -> None:
    for elevation, azimuth, index in load(path).outputs["elev_azim_index"].tolist():
        assert camera_index(elevation, azimuth) == index, (elevation, azimuth)


def test_unknown_elevation() -> None:
    with pytest.raises(UsageError, match="elevation 45"):
        camera_index(45, 0)
