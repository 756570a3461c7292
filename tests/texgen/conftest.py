"""One tiny texture checkpoint for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Delight, paint and paint-turbo in the official layout."""
    from tests.texgen.tiny import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("texture_models"))


@pytest.fixture(autouse=True)
def _models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the user's models nor the network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("HY3DGEN_MODELS", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small only wait for each other's threads
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def picture() -> Image.Image:
    """A cut-out object with a gradient, RGBA, not square."""
    pixels = np.zeros((90, 60, 4), np.uint8)
    pixels[10:80, 15:45, :3] = np.linspace(40, 220, 70, dtype=np.uint8)[:, None, None]
    pixels[10:80, 15:45, 3] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def ball() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=2)
