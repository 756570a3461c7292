"""The quality benchmark around the model: resuming, real meshes, pictures' measures, the generated page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from benchmarks import outside, quality
from benchmarks.quality_table import page
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.preview import render_picture, render_silhouette

SETTINGS = quality.Settings(steps=20, guidance=4.0, octree_resolution=128)


def test_records_are_made_once_for_their_settings(tmp_path: Path) -> None:
    path, made = tmp_path / "deep" / "records.jsonl", []

    def make() -> dict[str, float]:
        made.append(1)
        return {"iou": 0.5}

    for _ in range(2):  # a second run reads what the first left
        records = quality.Records(path, SETTINGS)
        assert records.get("procedural", "mug-0", make)["iou"] == 0.5
    assert len(made) == 1
    other = quality.Records(path, quality.Settings(steps=10, guidance=4.0, octree_resolution=128))
    other.get("procedural", "mug-0", make)
    assert len(made) == 2
    assert quality.Records(path, SETTINGS).get("outside", "mug-0", make)["iou"] == 0.5
    assert len(made) == 3


def test_outside_meshes_are_set_upright_and_photographed(tmp_path: Path) -> None:
    tall = trimesh.creation.cone(0.3, 2.0)  # along z, apex up
    tall.export(tmp_path / "cone.stl")
    source = outside.Source("numpy", "numpy", "cone.stl", outside.Z_UP)
    item = outside.load(source, tmp_path / "cone.stl", 0.0)
    size = np.ptp(item.mesh.vertices, axis=0)
    assert size.argmax() == 1 and size.max() == pytest.approx(1.9, rel=1e-4)
    assert np.abs(item.mesh.vertices.max(0) + item.mesh.vertices.min(0)).max() < 1e-4
    alpha = np.asarray(item.picture.getchannel("A")) > 127
    widths = alpha.sum(1)[alpha.any(1)]
    assert widths[:20].mean() < 0.3 * widths[-40:].max()  # the apex is at the top of the picture
    assert item.version == np.__version__ and item.file == "cone.stl"


def test_missing_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside.importlib.util, "find_spec", lambda name: None)
    assert outside.available() == []


def painted_box() -> Mesh:
    """A box whose faces all show one texture, red left of blue."""
    box = trimesh.creation.box((1.2, 0.8, 0.6))
    vertices = np.asarray(box.vertices, np.float32)
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:, :32], texture[:, 32:] = (200, 30, 30), (30, 30, 200)
    uv = (vertices[:, :2] / (1.2, 0.8) + 0.5).astype(np.float32)
    return Mesh(vertices, np.asarray(box.faces, np.int32), uv=uv, texture=texture)


def test_picture_measures_know_the_mesh_s_own_picture() -> None:
    mesh, view = painted_box(), View(0.0)
    colours = render_picture(mesh, view, size_px=256, lit=False)
    alpha = render_silhouette(mesh, view, (256, 256)).astype(np.uint8) * 255
    cutout = np.dstack([colours, alpha])
    assert quality.front_colour_error(mesh, cutout) < 0.02
    assert quality.best_silhouette_iou(mesh, alpha > 0) > 0.9
    swapped = cutout[:, :, [2, 1, 0, 3]]
    assert quality.front_colour_error(mesh, swapped) > 0.3
    assert quality.best_silhouette_iou(mesh, alpha.T > 0) < 0.6


def test_a_known_field_scores_full_marks() -> None:
    from benchmarks import scoring

    field = 0.7 - np.linalg.norm(scoring.lattice(32), axis=-1)
    scores = scoring.field_scores(field, field > 0, scoring.crossings(field))
    assert scores["iou"] == 1.0 and scores["chamfer"] < 0.02


def test_quick_run_without_parts_writes_json_and_page(tmp_path: Path) -> None:
    """The plumbing from the command line to both files, on an empty folder of pictures."""
    output, written = tmp_path / "quality.json", tmp_path / "quality.md"
    argv = ["--only", "pictures", "--pictures", str(tmp_path), "--output", str(output), "--page", str(written)]
    assert quality.main([*argv, "--partial", str(tmp_path / "partial.jsonl")]) == 0
    result = json.loads(output.read_text())
    assert result["pictures"]["count"] == 0 and result["weights"]["name"] == "nano"
    assert len(result["weights"]["sha256"]) == 64 and result["machine"]["torch"]
    assert "No pictures were given" in written.read_text()


def test_page_shows_every_figure() -> None:
    result = {
        "machine": {"system": "Linux x86_64", "cpu_threads": 2, "torch": "2"},
        "weights": {"name": "nano", "sha256": "ab" * 32},
        "settings": {"steps": 20, "guidance": 4.0, "seed": 0, "octree_resolution": 128},
        "procedural": {
            "iou": 0.678,
            "iou_median": 0.712,
            "chamfer": 0.051,
            "count": 2,
            "categories": {"mug": {"iou": 0.601, "chamfer": 0.041}, "car": {"iou": 0.831, "chamfer": 0.032}},
        },
        "outside": {
            "iou": 0.55,
            "chamfer": 0.089,
            "count": 1,
            "meshes": [
                {
                    "name": "duck",
                    "iou": 0.55,
                    "chamfer": 0.089,
                    "package": "pybullet",
                    "version": "3",
                    "file": "duck.obj",
                }
            ],
        },
        "pictures": {
            "silhouette_iou": 0.91,
            "floating_share": 0.0123,
            "count": 1,
            "pictures": [{"name": "lamp", "silhouette_iou": 0.91, "floating_share": 0.0123, "colour_error": 0.021}],
        },
        "texture": {"front_colour_error": 0.021},
        "levers": {lever: {"iou": 0.66, "chamfer": 0.05, "count": 12} for lever in ("none", *quality.LEVERS)},
    }
    text = page(result)
    for figure in (
        "0.678",
        "0.712",
        "| mug | 0.601 | 0.041 |",
        "pybullet 3, `duck.obj`",
        "1.23 %",
        "0.021",
        "flashvdm",
    ):
        assert figure in text, figure


def test_unseen_texels_and_their_true_colours() -> None:
    from benchmarks import texture
    from benchmarks.shapes import shape

    item = texture.subject(shape("fruit", 0), 64)
    assert item.truth.shape == (int(item.texels.chart.sum()), 3) and 0 <= item.truth.min() <= item.truth.max() <= 1
    assert 0.3 < item.seen.mean() < 0.7, "a solid without hollows shows about half of itself"
    perfect = np.zeros((64, 64, 3))
    perfect[item.texels.chart] = item.truth * 255
    scores = dict(texture._scores(item, {"perfect": perfect, "grey": np.full(3, 128.0)}))
    assert scores["perfect_unseen_db"] == scores["perfect_seen_db"] == 60
    assert 3 < scores["grey_unseen_db"] < 40
    record = texture.texture_record(shape("fruit", 0), size_px=64)
    found = texture.summary({"fruit-0": record}, 64)
    assert found["psnr_symmetry_fill_db"] == pytest.approx(record["symmetry_fill_unseen_db"], abs=0.01)
    assert found["count"] == 1


def test_the_page_shows_the_colours_of_the_whole_surface() -> None:
    figures = {
        "psnr_unseen_db": None, "psnr_symmetry_fill_db": 14.4, "psnr_flat_db": 15.0, "psnr_seen_db": None,
        "psnr_seen_symmetry_fill_db": 14.6, "unseen_share": 0.67, "count": 24, "texture_px": 512,
    }  # fmt: skip
    result = {
        "settings": {"steps": 20, "guidance": 4.0, "seed": 0},
        "machine": {"system": "s", "cpu_threads": 1, "torch": "2"},
        "weights": {"name": "nano", "sha256": "0" * 64}, "texture": figures,
    }  # fmt: skip
    text = page(result)
    assert "| painted (`paint-nano`) | - | - |" in text and "| 14.40 | 14.60 |" in text and "67 %" in text
    assert "Colours of the whole surface" not in page(result | {"texture": {"front_colour_error": 0.01}})


def test_pictures_with_floating_pieces_are_counted() -> None:
    """The mean share hides one picture with much in the air among many without."""
    records = [{"floating_share": share} for share in (0.0, 0.0, 0.0004, 0.2)]
    assert quality.floating_pictures(records) == 0.25
    assert quality.floating_pictures([]) is None


def test_at_least_thirty_renders_are_outside_the_generator() -> None:
    assert sum(len(source.yaws_deg) for source in outside.SOURCES) >= 30
    assert len({(source.module, source.path) for source in outside.SOURCES}) == len(outside.SOURCES)
