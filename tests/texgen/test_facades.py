"""The reference's names of the helper modules: carried, or saying what to use instead."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import trimesh

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.texgen.utils import simplify_mesh_utils
from hy3dgen.texgen.utils.uv_warp_utils import mesh_uv_wrap


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        ("imagesuper_utils", "Image_Super_Net", "texture-size"),
        ("alignImg4Tex_utils", "HesModel", "ControlNet"),
        ("counter_utils", "RunningStats", "numpy"),
    ],
)
def test_what_is_not_carried_says_what_to_use(module: str, name: str, instead: str) -> None:
    found = importlib.import_module(f"hy3dgen.texgen.utils.{module}")
    with pytest.raises(ImportError, match=f"{name}.*{instead}"):
        getattr(found, name)


def test_mesh_uv_wrap_leaves_the_mesh_alone() -> None:
    """The reference's changes the caller's mesh in place."""
    box = trimesh.creation.box()
    vertices = box.vertices.copy()
    wrapped = mesh_uv_wrap(trimesh.Scene([box]))
    assert wrapped.visual.uv.shape == (len(wrapped.vertices), 2) and len(wrapped.faces) == len(box.faces)
    assert np.array_equal(box.vertices, vertices) and box.visual.kind != "texture"
    with pytest.raises(MeshError):
        mesh_uv_wrap(trimesh.Trimesh())


def test_simplify_keeps_a_small_mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.ply", tmp_path / "out.obj"
    trimesh.creation.icosphere(subdivisions=2).export(source)
    simplify_mesh_utils.remesh_mesh(source, target)
    assert len(trimesh.load(target, force="mesh").faces) == 320
    monkeypatch.setattr(simplify_mesh_utils, "MANY_FACES", 300)
    monkeypatch.setattr(simplify_mesh_utils, "FEW_FACES", 200)
    simplify_mesh_utils.mesh_simplify_trimesh(source, target)
    assert len(trimesh.load(target, force="mesh").faces) <= 200
    with pytest.raises(UsageError, match="blender"):
        simplify_mesh_utils.remesh_mesh(source, target, method="blender")
