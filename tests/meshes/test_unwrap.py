"""UV maps: every face has its place, nothing overlaps, and odd input does not break it."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.meshes import topology
from hy3dgen.meshes import unwrap as unwrapping
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import texel_layers, unwrap, uv_metrics
from tests.meshes import shapes

METHODS = ["uvunwrap", "xatlas"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_map_is_complete_and_free_of_overlap(method: str, scale: float):
    mesh = shapes.bumpy(3, 1, scale)
    result = unwrap(mesh, size_px=512, method=method)
    metrics = uv_metrics(result, 1024)
    assert np.array_equal(result.vertices[result.faces], mesh.vertices[mesh.faces])
    assert result.uv.dtype == np.float32 and result.uv.min() >= 0 and result.uv.max() <= 1
    assert metrics.overlap < 1e-3 and metrics.coverage > 0.35 and metrics.charts < 60 and metrics.stretch < 1.3
    assert topology.is_watertight(result), "seams must not count as holes"


def test_uvunwrap_never_mirrors_a_chart():
    assert uv_metrics(unwrap(shapes.torus(32), method="uvunwrap")).mirrored == 0


@pytest.mark.parametrize("method", METHODS)
def test_same_input_same_map(method: str):
    first, second = (unwrap(shapes.bumpy(2, 3), method=method) for _ in range(2))
    assert np.array_equal(first.uv, second.uv) and np.array_equal(first.faces, second.faces)


def test_normals_are_smooth_across_seams():
    mesh = shapes.ball(3)
    result = unwrap(mesh)
    assert len(result.vertices) > len(mesh.vertices)
    assert np.abs(result.normals - result.vertices).max() < 0.02


@given(st.integers(0, 2**31), st.floats(0.05, 0.6))
@settings(max_examples=8, deadline=None)
def test_wrong_winding_is_put_right_first(seed: int, share: float):
    """Mixed windings made uvunwrap some 25 times slower and gave thousands of charts."""
    mesh = shapes.ball(3)
    mixed = topology.turn(mesh, np.random.default_rng(seed).random(len(mesh.faces)) < share)
    result = unwrap(mixed, size_px=256)
    assert uv_metrics(result).charts < 40
    assert topology.volume(result) == pytest.approx(topology.volume(mesh), rel=1e-5)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_odd_faces_do_not_stop_it(method: str):
    mesh = shapes.ball(2)
    more = [[0, 0, 1], mesh.faces[3].tolist(), [mesh.faces[5][0], mesh.faces[90][1], mesh.faces[200][2]]]
    odd = Mesh(
        np.concatenate([mesh.vertices, np.full((2, 3), np.nan, np.float32)]),
        np.concatenate([mesh.faces, more]).astype(np.int32),
    )
    result = unwrap(odd, size_px=256, method=method)
    assert len(result.faces) == len(odd.faces) and np.isfinite(result.uv).all()


def test_one_face_is_enough():
    one = Mesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    assert uv_metrics(unwrap(one, size_px=64)).charts == 1


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        (Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)), "no faces"),
        (Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]], np.float32), np.array([[0, 1, 2]], np.int32)), "NaN"),
        (Mesh(np.ones((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)), "one place"),
    ],
)
def test_hopeless_meshes_get_a_sentence(mesh: Mesh, words: str):
    with pytest.raises(MeshError, match=words):
        unwrap(mesh)


def test_options_are_checked():
    with pytest.raises(UsageError, match="method"):
        unwrap(shapes.box(), method="smart")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="size_px"):
        unwrap(shapes.box(), size_px=1)
    with pytest.raises(MeshError, match="no UV"):
        uv_metrics(shapes.box())


def test_a_bad_map_is_noticed_and_xatlas_steps_in(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def all_over_each_other(mesh: Mesh, points: np.ndarray, size_px: int, padding_px: int) -> Mesh:
        corners = mesh.faces.reshape(-1)
        uv = np.tile(np.array([[0, 0], [1, 0], [0, 1]], np.float32), (len(mesh.faces), 1))
        return Mesh(mesh.vertices[corners], np.arange(len(corners), dtype=np.int32).reshape(-1, 3), uv=uv)

    monkeypatch.setattr(unwrapping, "_with_uvunwrap", all_over_each_other)
    with caplog.at_level(logging.WARNING):
        result = unwrap(shapes.ball(1))
    assert uv_metrics(result).overlap == 0 and "xatlas" in caplog.text and "more than one face" in caplog.text
    with pytest.raises(MeshError, match="more than one face"):
        unwrap(shapes.ball(1), method="uvunwrap")


def test_texels_on_a_common_edge_belong_to_one_face():
    """A quad cut along any diagonal, also with corners on texel centres, covers each of its texels once."""
    for quad in (
        [[0, 0], [1, 0], [1, 1], [0, 1]],
        [[0.1875, 0.1875], [0.8125, 0.3125], [0.6875, 0.9375], [0.0625, 0.5625]],
    ):
        for faces in ([[0, 1, 2], [0, 2, 3]], [[0, 1, 3], [1, 2, 3]], [[0, 2, 1], [0, 2, 3]]):
            layers = texel_layers(np.array(quad, np.float32), np.array(faces), 8)
            assert layers.max() == 1
    assert (
        texel_layers(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), np.array([[0, 1, 2], [0, 2, 3]]), 8) == 1
    ).all()


def test_metrics_of_a_known_map():
    """Half a page, one square mapped without distortion; then the same squeezed to half its width."""
    vertices = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], np.float32)
    mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), uv=vertices[:, :2] / 2)
    metrics = uv_metrics(mesh, 64)
    assert (metrics.coverage, metrics.overlap, metrics.charts, metrics.mirrored) == (0.5, 0.0, 1, 0)
    assert metrics.stretch == pytest.approx(1.0)
    squeezed = mesh.with_(uv=mesh.uv * np.float32([0.5, 1.0]))
    assert uv_metrics(squeezed, 64).stretch == pytest.approx(np.sqrt((4 + 1) / 2) / np.sqrt(2), rel=1e-5)
    assert uv_metrics(mesh.with_(uv=np.float32([1, 0]) + mesh.uv * np.float32([-1, 1])), 64).mirrored == 2


def test_more_faces_than_a_page_can_show_are_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    """Five million faces once kept it busy for many minutes, for a map with less than a texel for each."""
    mesh = shapes.bumpy(3, 1)
    monkeypatch.setattr(unwrapping, "MAX_FACES", len(mesh.faces) - 1)
    with pytest.raises(MeshError, match=r"1280 faces are too many for a UV map.*reduce the mesh first"):
        unwrap(mesh, size_px=256)
    monkeypatch.setattr(unwrapping, "MAX_FACES", len(mesh.faces))
    assert unwrap(mesh, size_px=256).uv is not None
