"""The geometry benchmark: its shapes and distances are right, and a small run gives the promised keys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import geometry, surfaces
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
