"""The geometry benchmark: its shapes and distances are right, and a small run gives the promised keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import geometry, geometry_gpu, surfaces
from hy3dgen.meshes import topology
from hy3dgen.meshes.cleanup import clean
from tests.meshes import shapes


def test_figurine_is_closed_has_a_hole_and_floaters():
    mesh = surfaces.mesh_of_grid(surfaces.figurine_grid(128))
    assert topology.is_watertight(mesh) and topology.volume(mesh) > 0
    body, report = clean(mesh)
    assert report.parts > 15 and report.parts_removed == report.parts - 1 and report.faces_turned == 0
    euler = len(body.vertices) - len(topology.edge_table(body.faces).edges) + len(body.faces)
    assert euler == 0, "one hole through the body"


def test_distance_to_a_ball_is_known():
    points = np.random.default_rng(0).normal(size=(500, 3)) * 1.5
    distance, face = surfaces.distance_to_mesh(points, shapes.ball(4))
    assert distance == pytest.approx(np.abs(np.linalg.norm(points, axis=1) - 1), abs=2e-3)
    assert face.min() >= 0 and face.max() < 20 * 4**4


def test_compare_sees_a_shift_and_a_turn():
    ball = shapes.ball(4)
    same = surfaces.compare(ball, ball, count=2000)
    assert same["chamfer"] < 0.01 and same["normal_error_deg"] < 0.5
    bigger = surfaces.compare(ball.with_(vertices=ball.vertices * np.float32(1.01)), ball, count=2000)
    assert bigger["chamfer"] == pytest.approx(0.01 / (2 * 3**0.5) * 1e4, rel=0.02)
    assert surfaces.compare(shapes.turned(ball), ball, count=2000)["normal_error_deg"] > 175


def test_small_run_writes_the_promised_keys(tmp_path: Path):
    output, docs = tmp_path / "geometry.json", tmp_path / "geometry.md"
    rows = geometry.bench_mesh("figurine", surfaces.mesh_of_grid(surfaces.figurine_grid(32)), 1, texels=False)
    output.write_text(json.dumps({"machine": geometry.machine("test"), "rows": rows}))
    assert geometry.main(["--table", "--output", str(output), "--docs", str(docs)]) == 0
    assert {"floaters", "clean", "reduce", "unwrap"} <= {row["stage"] for row in rows}
    for row in rows:
        assert {"stage", "faces", "ours_s", "reference", "reference_s", "ratio", "quality"} <= set(row)
        if row["reference_s"]:
            assert row["ratio"] == pytest.approx(row["ours_s"] / row["reference_s"], rel=0.3, abs=0.01)
    assert "| reduce | figurine |" in docs.read_text()


def test_the_device_rows_run_and_a_failing_one_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On the CPU with small sizes; Triton cannot draw there, so its rows keep the reason."""
    for name, value in (("SIZE", (64, 64)), ("GRID_POINTS", 33), ("RASTER_FACES", 2000), ("BAKE_FACES", 1000),
                        ("MIN_RUNS", 1), ("SECONDS_PER_ROW", 0.0)):  # fmt: skip
        monkeypatch.setattr(geometry_gpu, name, value)
    output = tmp_path / "gpu.json"
    assert geometry_gpu.main(["--device", "cpu", "--output", str(output), "--budget-s", "200"]) == 0
    rows = {row["row"]: row for row in json.loads(output.read_text())["rows"]}
    assert list(rows) == list(geometry_gpu.ROWS) and set(geometry_gpu.EXPECTED) <= set(rows)
    for name, row in rows.items():
        assert ("error" in row) == name.endswith("triton"), row
        assert "error" in row or row["median_ms"] >= 0
    assert rows["extract 385³"]["faces_equal_host"] and rows["raster front, torch"]["face_ids_unequal"] == 0
    lines = geometry_gpu.section(output)
    assert sum(line.startswith("| raster front, triton |") for line in lines) == 2
    last = list(geometry_gpu.EXPECTED)[-1]
    assert geometry_gpu.section(tmp_path / "none.json")[-2].startswith(f"| {last} |")


def test_the_page_has_the_committed_device_rows():
    page = (geometry.ROOT / "docs/geometry.md").read_text(encoding="utf-8").splitlines()
    lines = geometry_gpu.section(geometry_gpu.RESULTS)
    assert any("Measured: NVIDIA" in line for line in lines)
    assert [line for line in lines if line not in page] == []


def test_device_rows_after_the_budget_are_left_out():
    rows: list[dict[str, object]] = []
    geometry_gpu.measured(
        geometry_gpu.Bench(geometry_gpu.pick_device("cpu")), -1.0, lambda found: rows.extend(found[-1:])
    )
    assert len(rows) == len(geometry_gpu.ROWS) and all("budget" in str(row["error"]) for row in rows)
