"""The example pictures: present, small, cut out, and still what their script draws."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from hy3dgen.images.background import is_cut_out
from hy3dgen.images.load import open_picture

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_examples", ROOT / "tools" / "render_examples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_example_is_committed_small_and_cut_out(script: ModuleType) -> None:
    for name in script.EXAMPLES:
        path = ROOT / "assets" / "examples" / f"{name}.png"
        assert path.stat().st_size < 300_000
        picture = open_picture(path)
        assert picture.mode == "RGBA" and is_cut_out(picture)
        assert min(picture.size) >= 512 and max(picture.size) <= 1024


@pytest.mark.parametrize("name", ["mug", "robot"])
def test_the_script_still_draws_them(script: ModuleType, name: str, tmp_path: Path) -> None:
    assert script.main([name, "--size", "64", "--output", str(tmp_path)]) == 0
    drawn = np.asarray(Image.open(tmp_path / f"{name}.png"), float)
    with Image.open(ROOT / "assets" / "examples" / f"{name}.png") as committed:
        kept = np.asarray(committed.convert("RGBa").resize((64, 64), Image.Resampling.BOX).convert("RGBA"), float)
    assert np.abs(drawn[..., 3] - kept[..., 3]).mean() < 2
    solid = drawn[..., 3] > 250
    assert np.abs(drawn[solid] - kept[solid]).mean() < 4
