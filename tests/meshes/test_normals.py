"""Normals: known directions, seams, and independence of the triangulation."""

from __future__ import annotations

import numpy as np
import pytest

from hy3dgen.meshes import normals
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from tests.meshes import shapes


@pytest.mark.parametrize("weighting", ["angle", "area", "none"])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_normals_of_a_ball_point_outward(weighting: str, scale: float):
    ball = shapes.ball(4)
    found = normals.vertex_normals(ball.with_(vertices=ball.vertices * np.float32(scale)), weighting=weighting)
    assert found.dtype == np.float32
    assert np.abs(found - ball.vertices).max() < 0.01
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0, abs=1e-6)


def test_angle_weights_do_not_see_the_triangulation():
    """Cube corners have one, two or more triangles a side; by angle all get the diagonal."""
    cube = shapes.box()
    assert np.abs(normals.vertex_normals(cube) - cube.vertices / np.sqrt(3)).max() < 1e-6
    assert np.abs(normals.vertex_normals(cube, weighting="none") - cube.vertices / np.sqrt(3)).max() > 0.1


def test_seams_get_one_normal_and_the_reference_two():
    mesh = unwrap(shapes.ball(2))
    smooth = normals.vertex_normals(mesh)
    split = normals.reference_vertex_normals(mesh.vertices, mesh.faces)
    _, group = np.unique(mesh.vertices, axis=0, return_inverse=True)
    spread = [
        max(np.ptp(n[group.reshape(-1) == g], axis=0).max() for g in range(group.max() + 1)) for n in (smooth, split)
    ]
    assert spread[0] == 0 and spread[1] > 0.05


def test_reference_normals_are_the_plain_mean_of_the_faces():
    ball = shapes.ball(1)
    faces = normals.face_normals(ball.vertices, ball.faces)
    expected = np.stack([faces[(ball.faces == v).any(1)].sum(0) for v in range(len(ball.vertices))]).astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(normals.reference_vertex_normals(ball.vertices, ball.faces) - expected).max() < 1e-6


def test_degenerate_faces_have_no_direction():
    flat = Mesh(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], np.float32), np.array([[0, 1, 2]], np.int32))
    assert (normals.face_normals(flat.vertices, flat.faces) == 0).all()
    assert (normals.reference_vertex_normals(flat.vertices, flat.faces) == 0).all()
    assert (normals.vertex_normals(flat) == [0, 1, 0]).all()
