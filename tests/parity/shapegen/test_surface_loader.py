"""Normalised meshes and sharp-edge samples against recorded ones, with the recorded draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from hy3dgen.shapegen.surface_loaders import normalize_mesh, sharp_sample_pointcloud
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("shapegen", "surface_loader"), ids=lambda p: p.stem)
def test_surface_loader(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        name = case["mesh"]
        given = {k.removeprefix(name + "."): v.numpy() for k, v in vector.inputs.items() if k.startswith(name + ".")}
        want = {k.removeprefix(name + "."): v.numpy() for k, v in vector.outputs.items() if k.startswith(name + ".")}
        mesh = trimesh.Trimesh(given["vertices"], given["faces"], vertex_normals=given["vertex_normals"], process=False)
        np.testing.assert_allclose(mesh.face_normals, given["face_normals"], atol=1e-6)
        for scale in (key.removeprefix("normalized_") for key in want if key.startswith("normalized_")):
            got = normalize_mesh(mesh, float(scale)).vertices
            np.testing.assert_allclose(got, want[f"normalized_{scale}"], rtol=0, atol=1e-6)
        draws = (given["rand_edge"], given["rand_lerp"])
        points, normals = sharp_sample_pointcloud(mesh, len(given["rand_edge"]), draws=draws)
        np.testing.assert_allclose(points, want["sharp_points"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(normals, want["sharp_normals"], rtol=0, atol=1e-6)
