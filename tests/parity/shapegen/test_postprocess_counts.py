"""Counts after cleaning and reducing against recorded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import trimesh

from hy3dgen.shapegen.postprocessors import DegenerateFaceRemover, FaceReducer, FloaterRemover
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("shapegen", "postprocess_counts"), ids=lambda p: p.stem)
def test_postprocess_counts(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        name = case["mesh"]
        vertices, faces = vector.inputs[f"{name}.vertices"].numpy(), vector.inputs[f"{name}.faces"].numpy()
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        for cls in (FloaterRemover, DegenerateFaceRemover):
            want, got = case[cls.__name__], cls()(mesh)
            assert isinstance(got, trimesh.Trimesh)
            assert (len(got.vertices), len(got.faces)) == (want["vertices"], want["faces"]), (name, cls.__name__)
            assert got.area == pytest.approx(want["area"], rel=1e-5)
            assert len(got.split(only_watertight=False)) == want["components"]
        for target, want in case["FaceReducer"].items():
            got = FaceReducer()(mesh, max_facenum=int(target))
            assert abs(len(got.faces) - want["faces"]) <= 3, (name, target, len(got.faces))
            assert got.area == pytest.approx(want["area"], rel=0.01), (name, target)
        assert (len(mesh.vertices), len(mesh.faces)) == (len(vertices), len(faces)), "the input was changed"
