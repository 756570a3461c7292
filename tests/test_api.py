"""hy3dgen.generate: the whole job in one call."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hy3dgen
from hy3dgen.errors import Cancelled, ImageError, OutputError, UsageError
from hy3dgen.jobs.models import Models
from hy3dgen.jobs.options import options_from
from hy3dgen.meshes.io import read_mesh
from hy3dgen.reports.run import read_report
from hy3dgen.runtime.stages import StageRecord
from tests.cli.pictures import QUICK_OPTIONS, draw_mug


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(options_from({**QUICK_OPTIONS, "preview": False}))


def test_a_picture_becomes_a_result_that_can_be_saved(models: Models, tmp_path: Path) -> None:
    picture = draw_mug()
    before = picture.tobytes()
    state = torch.get_rng_state()
    result = hy3dgen.generate(picture, models=models)
    assert isinstance(result, hy3dgen.Result)
    assert picture.tobytes() == before and torch.equal(torch.get_rng_state(), state)
    assert result.mesh.texture is not None and result.mesh.texture.shape == (128, 128, 3)
    assert result.report["mesh"]["faces"] == len(result.mesh.faces)
    assert result.report["outputs"] == [] and result.report["command"] == []
    assert result.preview is None and list(result.cutouts) == ["front"]
    assert result.save(tmp_path / "mug.glb") == [tmp_path / "mug.glb"]
    assert read_report(tmp_path / "mug.glb")["mesh"] == result.report["mesh"]
    assert len(read_mesh(tmp_path / "mug.glb").faces) == len(result.mesh.faces)
    with pytest.raises(OutputError, match="exists already"):
        result.save(tmp_path / "mug.glb")
    with pytest.raises(UsageError, match=r"\.glb, \.obj, \.ply, \.stl"):
        result.save(tmp_path / "mug.fbx")


def test_the_result_does_not_depend_on_how_the_picture_is_given(models: Models, tmp_path: Path) -> None:
    picture = draw_mug()
    picture.save(tmp_path / "mug.png")
    given: list[Any] = [tmp_path / "mug.png", (tmp_path / "mug.png").read_bytes(), np.asarray(picture)]
    meshes = [hy3dgen.generate(source, models=models).mesh for source in given]
    assert all(np.array_equal(mesh.vertices, meshes[0].vertices) for mesh in meshes[1:])


def test_a_listener_hears_and_an_event_stops_within_one_step(models: Models) -> None:
    event = threading.Event()
    heard: list[tuple[str, int]] = []

    def listener(record: StageRecord) -> None:
        heard.append((record.name, record.steps_done))
        if record.name == "denoise" and record.steps_done == 1:
            event.set()

    with pytest.raises(Cancelled):
        hy3dgen.generate(draw_mug(), models=models, listener=listener, cancel_event=event)
    assert max(done for name, done in heard if name == "denoise") == 1
    assert "decode" not in {name for name, _ in heard}
    assert hy3dgen.generate(draw_mug(), models=models).mesh is not None, "the models still work"


def test_kept_stages_are_taken_up_by_a_later_call(models: Models, tmp_path: Path) -> None:
    first = hy3dgen.generate(draw_mug(), models=models, keep=tmp_path)
    again = hy3dgen.generate(draw_mug(), models=models, keep=tmp_path)
    assert first.resumed == () and again.resumed == ("cutout", "latents", "mesh", "unwrapped", "texture")
    assert np.array_equal(first.mesh.texture, again.mesh.texture)  # type: ignore[arg-type]


def test_unknown_options_and_clashes_are_refused(models: Models) -> None:
    with pytest.raises(TypeError, match="did you mean 'octree_resolution'"):
        hy3dgen.generate(draw_mug(), octree_resolutoin=3)
    with pytest.raises(TypeError, match="bring their own options"):
        hy3dgen.generate(draw_mug(), models=models, steps=3)
    with pytest.raises(UsageError, match="no picture"):
        hy3dgen.generate()
    with pytest.raises(UsageError, match="unknown view 'top'"):
        hy3dgen.generate({"front": draw_mug(), "top": draw_mug()})


def test_a_bad_picture_is_found_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(options_from(QUICK_OPTIONS))
    monkeypatch.setattr(models, "_load", lambda: pytest.fail("the model was loaded"))
    with pytest.raises(ImageError):
        hy3dgen.generate(np.zeros((64, 64, 4), np.uint8), models=models)


def test_the_package_shows_its_facade() -> None:
    assert {"generate", "Result", "__version__"} <= set(dir(hy3dgen))
    with pytest.raises(AttributeError, match="no attribute 'generat'"):
        hy3dgen.generat  # noqa: B018
