"""Painting beside the pictures: a tiny paint model without a delight model, in the official layout."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from hy3dgen.errors import MeshError, UsageError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.meshes.io import from_trimesh
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.texgen import Hunyuan3DPaintPipeline
from hy3dgen.texgen.blended import paint_beside_pictures
from hy3dgen.texgen.files import HABITS_KEY
from hy3dgen.texgen.locating import habits
from hy3dgen.texgen.projection import PictureView, project_pictures
from tests.texgen.tiny import PAINT, write_checkpoint

HABITS = {"num_inference_steps": 1, "guidance_scale": 1.0, "start": "guess", "takes_light_out": True}
SIZE = 128


def with_habits(root: Path, wishes: Any) -> Path:
    path = root / PAINT / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {HABITS_KEY: wishes}))
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a paint model that starts from a guess, and no delight model."""
    root = write_checkpoint(tmp_path_factory.mktemp("small"), delight=False, turbo=False)
    scheduler = root / PAINT / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"rescale_betas_zero_snr": True}))
    return with_habits(root, HABITS)


@pytest.fixture(scope="module")
def ball_mesh() -> Mesh:
    return unwrap(from_trimesh(trimesh.creation.icosphere(subdivisions=3)), size_px=SIZE)


@pytest.fixture
def disc() -> PictureView:
    """What the ball looks like from the front: stripes."""
    line = np.linspace(-1, 1, 96)
    inside = line[:, None] ** 2 + line**2 < 0.95
    pixels = np.zeros((96, 96, 4), np.uint8)
    pixels[..., 0] = np.where(np.arange(96) // 8 % 2, 220, 60)
    pixels[..., 1:3], pixels[..., 3] = 120, inside * 255
    return PictureView(Image.fromarray(pixels), 0.0)


def painted(mesh: Mesh, picture: PictureView, small: Path, **options: Any) -> Any:
    return paint_beside_pictures(mesh, [picture], model=small, texture_size=SIZE, device="cpu", **options)


def test_everything_is_coloured_and_repeats_are_equal(small: Path, ball_mesh: Mesh, disc: PictureView) -> None:
    first, second = painted(ball_mesh, disc, small), painted(ball_mesh, disc, small)
    texture = first.mesh.texture
    assert texture.shape == (SIZE, SIZE, 3) and texture.dtype == np.uint8
    assert np.array_equal(texture, second.mesh.texture)
    assert ball_mesh.texture is None
    shares = vars(first.coverage)
    assert sum(shares.values()) == pytest.approx(1) and shares["filled"] > 0.3
    assert (texture.max(-1) > 0).mean() > 0.99, "no black parts"
    assert len(first.overlaps) == 1 and first.overlaps[0] > 0.9


def test_the_model_decides_what_the_picture_does_not_show(
    small: Path, ball_mesh: Mesh, disc: PictureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blue(self: Any, *_: Any) -> list[Image.Image]:
        return [Image.new("RGB", (self.view_size,) * 2, (20, 40, 200))] * 6

    monkeypatch.setattr("hy3dgen.texgen.utils.multiview_utils.Multiview_Diffusion_Net.__call__", blue)
    lit, plain = painted(ball_mesh, disc, small, delight=False), painted(ball_mesh, disc, small)
    projected = project_pictures(ball_mesh, [disc], texture_size=SIZE, device="cpu")
    for result in (lit, plain):
        assert result.coverage == projected.coverage
    vertex = ball_mesh.uv * [SIZE, -SIZE] + [0, SIZE]
    texel = np.clip(vertex.astype(int), 0, SIZE - 1)
    depth = ball_mesh.vertices[:, 2]
    front, back = (texel[mask] for mask in (depth > 0.8, depth < -0.8))
    kept = lit.mesh.texture[front[:, 1], front[:, 0]].astype(int)
    assert np.abs(kept - projected.mesh.texture[front[:, 1], front[:, 0]]).max() <= 2, "the picture itself"
    behind = plain.mesh.texture[back[:, 1], back[:, 0]].astype(int)
    assert np.abs(behind - [20, 40, 200]).max() <= 3, "the painted views"
    shown = plain.mesh.texture[front[:, 1], front[:, 0]].astype(int)
    assert shown[:, 2].mean() > 1.4 * kept[:, 2].mean() and shown[:, 0].std() > 5, "its colours, the picture's detail"


def test_painted_views_can_be_kept_and_brought_back(
    small: Path, ball_mesh: Mesh, disc: PictureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--keep`` kept the views of the official models only."""
    kept: dict[str, list[Image.Image]] = {}

    def recall(name: str, make: Callable[[], list[Image.Image]]) -> list[Image.Image]:
        if name not in kept:
            kept[name] = make()
        return kept[name]

    first = painted(ball_mesh, disc, small, recall=recall)
    assert list(kept) == ["views"] and len(kept["views"]) == 6
    monkeypatch.delattr("hy3dgen.texgen.utils.multiview_utils.Multiview_Diffusion_Net.__call__")
    again = painted(ball_mesh, disc, small, recall=recall)
    assert np.array_equal(first.mesh.texture, again.mesh.texture)


def test_offline_reaches_the_search_for_the_model(
    ball_mesh: Mesh, disc: PictureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool | None] = []

    def locate(*_: Any, offline: bool | None) -> Path:
        asked.append(offline)
        raise WeightsNotFoundError("not here")

    monkeypatch.setattr("hy3dgen.texgen.locating.locate_folder", locate)
    with pytest.raises(WeightsNotFoundError):
        paint_beside_pictures(ball_mesh, [disc], texture_size=SIZE, device="cpu", offline=True)
    assert asked == [True]


def test_the_official_pipeline_runs_it_without_delight(
    small: Path, picture: Image.Image, ball: trimesh.Trimesh, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pipeline = Hunyuan3DPaintPipeline.from_pretrained(small, subfolder=PAINT, device="cpu")
    assert not caplog.records, "a model that takes light out needs no other"
    assert set(pipeline.models) == {"multiview_model"}
    config = pipeline.config
    assert (config.multiview_inference_steps, config.multiview_guidance, config.start) == (1, 1.0, "guess")
    result = pipeline(ball, picture)
    assert np.asarray(result.visual.material.image).max() > 0


def test_the_guess_is_what_it_starts_from(
    small: Path, picture: Image.Image, ball: trimesh.Trimesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Hunyuan3DPaintPipeline.from_pretrained(small, subfolder=PAINT, device="cpu")
    inner, given = pipeline.models["multiview_model"].pipeline, {}
    original = type(inner).denoise

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        given.update(kwargs)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(inner), "denoise", spy)
    pipeline(ball, picture)
    assert given["latents"].shape[0] == 6 and given["guidance_scale"] == 1.0
    pipeline.config.candidate_camera_azims = [90, 0]
    pipeline.config.candidate_camera_elevs, pipeline.config.candidate_view_weights = [0, 0], [1, 1]
    given.clear()
    pipeline(ball, picture)
    assert given.get("latents") is None, "without the front as first view it starts from noise"


@pytest.mark.parametrize(
    "wishes", [[], {"num_inference_steps": 0}, {"guidance_scale": "2"}, {"start": "zeros"}, {"takes_light_out": 1}]
)
def test_wrong_habits_are_refused(tmp_path: Path, wishes: Any) -> None:
    (tmp_path / PAINT).mkdir()
    (tmp_path / PAINT / "model_index.json").write_text("{}")
    assert habits(tmp_path / PAINT) == {}
    with pytest.raises(WeightsDamagedError, match=r"model_index\.json"):
        habits(with_habits(tmp_path, wishes) / PAINT)


def test_errors_come_before_anything_is_loaded(ball_mesh: Mesh, disc: PictureView, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture"):
        paint_beside_pictures(ball_mesh, [], model=tmp_path)
    with pytest.raises(MeshError, match="unwrap"):
        paint_beside_pictures(ball_mesh.with_(uv=None), [disc], model=tmp_path)
