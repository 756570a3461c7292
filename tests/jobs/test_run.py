"""A stop during the last stage writes nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

import hy3dgen
from hy3dgen.errors import Cancelled
from hy3dgen.jobs import run


def test_a_stop_during_export_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the preview was drawn ended with exit 0 and all files written."""
    event, draw = threading.Event(), run.render_preview

    def draw_and_stop(*args: object) -> np.ndarray:
        event.set()
        return draw(*args)

    monkeypatch.setattr(run, "render_preview", draw_and_stop)
    mesh = tmp_path / "box.ply"
    trimesh.creation.box().export(mesh)
    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((200, 30, 30, 255), (8, 8, 24, 24))
    out = tmp_path / "out"
    with pytest.raises(Cancelled):
        hy3dgen.generate(picture, mesh=mesh, texture="none", device="cpu", output=out, cancel_event=event)
    assert event.is_set()
    assert not out.exists() or not list(out.iterdir())
