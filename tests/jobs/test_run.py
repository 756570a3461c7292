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


def test_the_bare_shape_is_shown_before_it_gets_its_colours() -> None:
    from hy3dgen.jobs.models import Models
    from hy3dgen.jobs.options import JobOptions
    from hy3dgen.jobs.task import Task
    from hy3dgen.meshes.io import from_trimesh
    from hy3dgen.meshes.mesh import Mesh
    from hy3dgen.runtime.stages import StageRecord

    seen: list[str] = []

    def shown(mesh: Mesh) -> None:
        assert mesh.texture is None
        assert len(mesh.faces) == 12
        seen.append("shape")

    def hear(record: StageRecord) -> None:
        if record.name not in seen:
            seen.append(record.name)

    picture = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    picture.paste((200, 30, 30, 255), (8, 8, 24, 24))
    task = Task("box", {"front": picture}, mesh=from_trimesh(trimesh.creation.box()))
    models = Models(JobOptions(texture_size=64, device="cpu", preview=False), has_shape=False)
    run.run_task(task, models, around=run.Surroundings(listener=hear, on_shape=shown))
    assert seen.index("cutout") < seen.index("shape") < seen.index("unwrap") < seen.index("bake")
