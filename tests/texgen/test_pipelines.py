"""Picture and mesh to textured mesh, with tiny networks in the official layout."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hy3dgen.errors import Cancelled, ImageError, MeshError, UsageError, WeightsNotFoundError
from hy3dgen.meshes.io import from_trimesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.runtime.stages import recording
from hy3dgen.texgen.pipelines import Hunyuan3DPaintPipeline, _opened, configured, is_available, paint_mesh
from tests.texgen.tiny import DELIGHT, PAINT, TURBO, VIEW_PX, write_checkpoint

QUICK = {"delight_steps": 2, "steps": 2, "texture_size": 128, "device": "cpu", "render_size": 128}


def load(root: Path, subfolder: str = TURBO, **arguments: Any) -> Hunyuan3DPaintPipeline:
    """A pipeline with few steps and small maps."""
    config = configured(root, subfolder, device="cpu", **arguments)
    config.delight_inference_steps = config.multiview_inference_steps = 2
    config.render_size = config.texture_size = 128
    return Hunyuan3DPaintPipeline(config)


def texture_of(mesh: trimesh.Trimesh) -> np.ndarray:
    return np.array(mesh.visual.material.image)


@pytest.fixture
def unwrapped(ball: trimesh.Trimesh) -> Any:
    return unwrap(from_trimesh(ball), size_px=128)


def test_picture_and_mesh_to_textured_glb(checkpoint: Path, picture: Image.Image, ball: trimesh.Trimesh) -> None:
    """The reference's own calls, nothing else; the arguments and the process's random numbers stay as they were."""
    pipeline = Hunyuan3DPaintPipeline.from_pretrained(str(checkpoint), subfolder=TURBO, device="cpu")
    assert set(pipeline.models) == {"delight_model", "multiview_model"}
    assert (pipeline.config.delight_inference_steps, pipeline.config.multiview_inference_steps) == (50, 10)
    pipeline = load(checkpoint)
    vertices, before = ball.vertices.copy(), picture.copy()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    with recording() as run:
        mesh = pipeline(ball, picture)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(ball.vertices, vertices) and ball.visual.kind != "texture"
    assert picture.tobytes() == before.tobytes()
    assert [s.name for s in run.stages] == ["delight", "unwrap", "maps", "views", "bake", "fill"]
    views = next(s for s in run.stages if s.name == "views")
    decided = {d.technique: d.applied for d in views.decisions}
    assert decided["VAE slicing"] and not decided["VAE tiling"] and not decided["attention slicing"]

    again = trimesh.load(io.BytesIO(mesh.export(file_type="glb")), file_type="glb", force="mesh")
    texture = np.array(again.visual.material.baseColorTexture.convert("RGB"))
    assert texture.shape == (128, 128, 3) and texture.std() > 5
    assert len(again.faces) == len(ball.faces) and again.visual.uv.min() >= 0 and again.visual.uv.max() <= 1
    coverage = pipeline.coverage
    assert coverage is not None and coverage.filled < 0.2

    assert np.array_equal(texture_of(pipeline(ball, picture)), texture_of(mesh)), "a repeat differs"


def test_paint_mesh(checkpoint: Path, picture: Image.Image, unwrapped: Any) -> None:
    """What the command line calls: UVs kept, seeds matter, equal seeds give equal textures."""
    results = [paint_mesh(unwrapped, [picture], model=checkpoint, seed=seed, **QUICK) for seed in (0, 0, 1)]
    textures = [result.mesh.texture for result in results]
    assert textures[0] is not None and textures[0].shape == (128, 128, 3) and textures[0].dtype == np.uint8
    assert np.array_equal(textures[0], textures[1]) and not np.array_equal(textures[0], textures[2])
    assert results[0].mesh.uv is unwrapped.uv and unwrapped.texture is None
    assert results[0].coverage.seen + results[0].coverage.blended > 0.5
    with pytest.raises(TypeError, match="colour"):
        paint_mesh(unwrapped, [picture], model=checkpoint, colour="red", **QUICK)
    with pytest.raises(UsageError, match="at least one"):
        paint_mesh(unwrapped, [], model=checkpoint, **QUICK)
    with pytest.raises(MeshError, match="texture coordinates"):
        paint_mesh(unwrapped.with_(uv=None), [picture], model=checkpoint, **QUICK)


def test_guidance_without_delight(tmp_path: Path, picture: Image.Image, unwrapped: Any) -> None:
    """A folder with nothing but the paint model; halves of guidance together or one after the other."""
    write_checkpoint(tmp_path / "m", delight=False, turbo=False)
    pipeline = load(tmp_path / "m", PAINT)
    assert set(pipeline.models) == {"multiview_model"}
    with recording() as run:
        together = pipeline.paint(unwrapped, picture).texture
    assert "delight" not in [s.name for s in run.stages]
    pipeline.config.split_guidance = True
    split = pipeline.paint(unwrapped, picture).texture
    assert together is not None and split is not None
    assert np.abs(together.astype(int) - split.astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "1", "I;16"])
def test_any_picture_mode(checkpoint: Path, picture: Image.Image, mode: str) -> None:
    """LA, P and L pictures crashed, or lost their transparency."""
    given = (
        picture.convert("L").convert(mode) if mode in ("1", "P") else picture.convert(mode[0] if ";" in mode else mode)
    )
    if ";" in mode:
        given = Image.fromarray(np.array(given).astype(np.uint16) * 200)
    pipeline = load(checkpoint)
    pipeline.config.delight_inference_steps = 1
    for delighted in (True, False):
        (ready,) = pipeline._without_light(_opened(given))
        assert ready.mode == "RGB" and ready.size == (VIEW_PX, VIEW_PX)
        if not delighted and mode in ("LA", "RGBA"):
            assert ready.getpixel((0, 0)) == (255, 255, 255)
        pipeline.models.pop("delight_model", None)


def test_pictures_are_not_stretched(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide RGB picture was squeezed to a square."""
    seen: list[Image.Image] = []
    pipeline = load(checkpoint)
    monkeypatch.setitem(pipeline.models, "delight_model", lambda image: seen.append(image) or image)
    wide = Image.new("RGB", (80, 20), (255, 0, 0))
    pipeline._without_light([wide])
    assert seen[0].size == (80, 80)
    red = (np.array(seen[0]) == (255, 0, 0)).all(axis=-1)
    assert red.sum() == 80 * 20 and red[30:50].all()


def test_several_pictures(checkpoint: Path, picture: Image.Image, unwrapped: Any, tmp_path: Path) -> None:
    """Paths and pictures; a second reference changes the result."""
    picture.save(tmp_path / "one.png")
    pipeline = load(checkpoint)
    one = pipeline.paint(unwrapped, str(tmp_path / "one.png")).texture
    two = pipeline.paint(unwrapped, [tmp_path / "one.png", Image.new("RGB", (40, 40), (200, 0, 0))]).texture
    assert one is not None and two is not None and not np.array_equal(one, two)
    with pytest.raises(ImageError, match="transparent"):
        pipeline.paint(unwrapped, Image.new("RGBA", (40, 40), (1, 2, 3, 0)))


def test_cancelling(checkpoint: Path, picture: Image.Image, ball: trimesh.Trimesh) -> None:
    """Stops inside the painting loop, and the pipeline works afterwards."""
    pipeline, event = load(checkpoint), threading.Event()
    painter = pipeline.models["multiview_model"]
    steps_done: list[int] = []

    def stop(record: Any) -> None:
        if record.name == "views" and record.steps_done == 1:
            event.set()
            steps_done.append(record.steps_done)

    with recording(listener=stop), pytest.raises(Cancelled):
        pipeline(ball, picture, cancel_event=event)
    assert max(steps_done) == 1
    assert not any(r.is_resident for r in painter.pipeline.residency._residencies.values())
    assert texture_of(pipeline(ball, picture)).std() > 0


def test_what_is_missing_is_named(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match=str(tmp_path / "nothing")):
        Hunyuan3DPaintPipeline.from_pretrained(tmp_path / "nothing", subfolder=TURBO)
    with pytest.raises(UsageError, match="hunyuan3d-paint-v3"):
        Hunyuan3DPaintPipeline.from_pretrained(checkpoint, subfolder="hunyuan3d-paint-v3")
    assert is_available(checkpoint, TURBO) and not is_available("paint") and not is_available(tmp_path)
    (tmp_path / DELIGHT).mkdir()
    write_checkpoint(tmp_path, delight=False, turbo=False)
    with pytest.raises(WeightsNotFoundError, match="not complete"):
        configured(tmp_path, PAINT)
    assert configured(tmp_path, PAINT, delight=False).light_remover_ckpt_path is None


def test_other_device_and_precision(checkpoint: Path, picture: Image.Image, unwrapped: Any) -> None:
    """bfloat16 on the CPU goes the same way and gives a similar texture; ``to`` takes effect."""
    pipeline = load(checkpoint)
    wide = pipeline.paint(unwrapped, picture).texture
    pipeline.to(dtype="bf16")
    assert pipeline.models["multiview_model"].pipeline.residency.dtype == torch.bfloat16
    narrow = pipeline.paint(unwrapped, picture).texture
    assert wide is not None and narrow is not None and not np.array_equal(wide, narrow)
    assert np.abs(wide.astype(int) - narrow.astype(int)).mean() < 25


def test_import_is_light() -> None:
    """``import hy3dgen.texgen`` alone loads neither torch nor diffusers."""
    code = "import hy3dgen.texgen, sys; print([m for m in ('torch', 'diffusers', 'trimesh') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
