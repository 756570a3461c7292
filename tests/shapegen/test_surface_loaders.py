"""Point samples of meshes: shapes, repeatability, smooth meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from hy3dgen.errors import InputError, MeshError
from hy3dgen.shapegen import surface_loaders
from hy3dgen.shapegen.surface_loaders import (
    SharpEdgeSurfaceLoader,
    SurfaceLoader,
    normalize_mesh,
    sharp_sample_pointcloud,
    sharp_vertices,
)


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface_loaders, "NUM_UNIFORM_SAMPLES", 3000)
    monkeypatch.setattr(surface_loaders, "NUM_SHARP_SAMPLES", 3000)


def test_uniform_points_lie_on_the_surface_with_its_normals(tmp_path: Path) -> None:
    file = tmp_path / "box.ply"
    trimesh.creation.box([1, 2, 4]).export(file)
    surface = SurfaceLoader(500)(file)
    assert surface.shape == (1, 500, 6) and surface.dtype == torch.float32
    points, normals = surface[0, :, :3], surface[0, :, 3:]
    half = torch.tensor([0.245, 0.49, 0.98])
    assert (points.abs() <= half + 1e-5).all()
    outward = (points / half * normals).sum(dim=1)
    torch.testing.assert_close(outward, torch.ones(500), atol=1e-4, rtol=0)


def test_sharp_points_lie_on_edges_and_are_labelled() -> None:
    surface = SharpEdgeSurfaceLoader()(trimesh.creation.box(), num_uniform_points=300, num_sharp_points=200)
    assert surface.shape == (1, 500, 7)
    assert surface[0, :, 6].tolist() == [0.0] * 300 + [1.0] * 200
    on_faces = ((surface[0, 300:, :3].abs() - 0.9999).abs() < 1e-3).sum(dim=1)
    assert (on_faces >= 1).all() and (on_faces >= 2).any()


def test_smooth_meshes_do_not_fail_e12() -> None:
    """E12: a mesh without sharp edges raised an IndexError, also when no sharp points were wanted."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    assert not sharp_vertices(ball).any()
    assert len(sharp_sample_pointcloud(ball, 10)[0]) == 0
    assert SharpEdgeSurfaceLoader(100, 0)(ball).shape == (1, 100, 7)
    surface = SharpEdgeSurfaceLoader(100, 50)(ball)
    assert surface.shape == (1, 150, 7) and surface[0, 100:, 6].eq(1).all()


def test_the_last_face_decides_about_sharpness_e10() -> None:
    """E10 is kept: encoders were trained with labels that depend on the order of faces."""
    vertices = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    flat, steep = [0, 1, 2], [0, 2, 3]
    normals = np.array([[0, 0, 1.0]] * 4)

    def origin_is_sharp(*faces: list[int]) -> bool:
        mesh = trimesh.Trimesh(vertices, np.array(faces), vertex_normals=normals, process=False)
        return bool(sharp_vertices(mesh)[0])

    assert origin_is_sharp(flat, steep) and not origin_is_sharp(steep, flat)


def test_draws_come_from_the_given_generator_only() -> None:
    """C14's kin: nothing depends on, or changes, numpy's global state."""
    box, loader = trimesh.creation.box(), SharpEdgeSurfaceLoader(50, 50)
    state = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    first, again = loader(box), loader(box)
    other = loader(box, generator=np.random.default_rng(5))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert np.array_equal(np.random.get_state()[1], state)  # type: ignore[index]


def test_meshes_are_not_changed_c11() -> None:
    """C11: normalize_mesh moved the caller's mesh."""
    box = trimesh.creation.box([1, 2, 3])
    before = box.vertices.copy()
    normalize_mesh(box)
    SharpEdgeSurfaceLoader(10, 10)(box)
    assert np.array_equal(box.vertices, before)


def test_refusals() -> None:
    with pytest.raises(MeshError, match="expected a path"):
        SurfaceLoader()(None)
    with pytest.raises(InputError, match="must be positive"):
        SharpEdgeSurfaceLoader(0, 0)(trimesh.creation.box())
