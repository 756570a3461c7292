"""The post-processing names on every type they accept; nothing given is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from hy3dgen.errors import MeshError, MissingExtraError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.shapegen.models.autoencoders.surface_extractors import Latent2MeshOutput
from hy3dgen.shapegen.postprocessors import (
    DegenerateFaceRemover,
    FaceReducer,
    FloaterRemover,
    MeshSimplifier,
    import_mesh,
    mesh_normalize,
    trimesh2pymeshlab,
)


@pytest.fixture
def ball_and_crumb() -> trimesh.Trimesh:
    crumb = trimesh.creation.icosphere(subdivisions=0, radius=0.1)
    crumb.apply_translation([2, 0, 0])
    return trimesh.util.concatenate([trimesh.creation.icosphere(subdivisions=5), crumb])


def as_kinds(mesh: trimesh.Trimesh, folder: Path) -> list[Any]:
    file = folder / "mesh.ply"
    mesh.export(file)
    vertices, faces = mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)
    return [mesh, trimesh.Scene([mesh]), str(file), file, Latent2MeshOutput(vertices, faces[:, ::-1])]


def test_every_kind_gives_the_same_outward_mesh_e13(ball_and_crumb: trimesh.Trimesh, tmp_path: Path) -> None:
    """E13: Latent2MeshOutput, announced as an input, raised AttributeError."""
    for given in as_kinds(ball_and_crumb, tmp_path):
        result = FloaterRemover()(given)
        assert isinstance(result, trimesh.Trimesh)
        assert len(result.faces) == 20 * 4**5 and result.is_watertight and result.volume > 4
    ours = import_mesh(ball_and_crumb)
    assert isinstance(FloaterRemover()(ours), Mesh)


def test_inputs_are_not_changed_c11(ball_and_crumb: trimesh.Trimesh) -> None:
    """C11: post-processing changed what it was given."""
    output = Latent2MeshOutput(ball_and_crumb.vertices.astype(np.float32), ball_and_crumb.faces.astype(np.int32))
    before = ball_and_crumb.vertices.copy(), ball_and_crumb.faces.copy()
    for operation in (FloaterRemover(), DegenerateFaceRemover(), lambda m: FaceReducer()(m, 500), import_mesh):
        for given in (ball_and_crumb, output, import_mesh(ball_and_crumb)):
            operation(given)
    mesh_normalize(ball_and_crumb)
    for vertices, faces in (
        (ball_and_crumb.vertices, ball_and_crumb.faces),
        (output.mesh_v, output.mesh_f),
    ):
        np.testing.assert_allclose(vertices, before[0], atol=1e-6)
        assert np.array_equal(faces, before[1])


def test_reducer_leaves_small_meshes_and_reaches_its_target(ball_and_crumb: trimesh.Trimesh) -> None:
    assert len(FaceReducer()(ball_and_crumb).faces) == len(ball_and_crumb.faces)
    assert abs(len(FaceReducer()(ball_and_crumb, max_facenum=800).faces) - 800) <= 3


def test_normalize_centres_all_axes_e9() -> None:
    """E9: the centre was taken from the x coordinates only."""
    box = trimesh.creation.box([1, 2, 3])
    box.apply_translation([5, -7, 1])
    result = mesh_normalize(box)
    np.testing.assert_allclose(result.bounds.sum(axis=0), 0, atol=1e-9)
    assert np.linalg.norm(result.vertices, axis=1).max() == pytest.approx(0.6)


def test_unusable_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="int"):
        FloaterRemover()(3)
    with pytest.raises(MeshError, match=r"nowhere\.ply"):
        FloaterRemover()(tmp_path / "nowhere.ply")


def test_simplifier_runs_its_program_without_a_shell_c15(tmp_path: Path, ball_and_crumb: trimesh.Trimesh) -> None:
    """C15: paths went unquoted through a shell and the exit status was ignored."""
    with pytest.raises(MissingExtraError, match="FaceReducer"):
        MeshSimplifier()(ball_and_crumb)
    program = tmp_path / "copy it; really"
    program.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    program.chmod(0o755)
    result = MeshSimplifier(program)(ball_and_crumb)
    assert len(result.faces) == len(ball_and_crumb.faces)
    program.write_text("#!/bin/sh\necho no licence >&2\nexit 3\n")
    with pytest.raises(MeshError, match="ended with 3: no licence"):
        MeshSimplifier(program)(ball_and_crumb)


@pytest.mark.extra
def test_meshset_gives_a_new_meshset(ball_and_crumb: trimesh.Trimesh) -> None:
    pytest.importorskip("pymeshlab")
    given = trimesh2pymeshlab(ball_and_crumb)
    result = FloaterRemover()(given)
    assert result is not given and type(result) is type(given)
    assert given.current_mesh().face_number() == len(ball_and_crumb.faces)
    assert result.current_mesh().face_number() == 20 * 4**5
