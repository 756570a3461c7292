"""Marching cubes against recorded meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from hy3dgen.shapegen.models.autoencoders.surface_extractors import MCSurfaceExtractor, center_vertices
from tests.parity.vectors import files, load


def expected(outputs: dict[str, torch.Tensor], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The recorded mesh without its NaN faces and the vertices that only they use."""
    vertices, faces = outputs[f"{name}.vertices"].numpy(), outputs[f"{name}.faces"].numpy()
    if f"{name}.face_is_finite" in outputs:
        faces = faces[outputs[f"{name}.face_is_finite"].numpy()]
        used = np.unique(faces)
        faces = np.searchsorted(used, faces)
        vertices = vertices[used]
    return vertices, faces


@pytest.mark.parametrize("path", files("shapegen", "surface_mc"), ids=lambda p: p.stem)
def test_surface_mc(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        name = case["case"]
        arguments: dict[str, Any] = {k: case[k] for k in ("mc_level", "octree_resolution")}
        arguments["bounds"] = case.get("bounds", 1.01)
        (output,) = MCSurfaceExtractor()(vector.inputs[f"{name}.grid"][None], **arguments)
        if "result" in case and case["result"] is None:
            assert output is None, name
            continue
        assert output is not None, name
        vertices, faces = expected(vector.outputs, name)
        assert np.isfinite(output.mesh_v).all()
        assert output.mesh_v.dtype == np.float32 and len(output.mesh_f) == case["finite_faces"]
        np.testing.assert_allclose(output.mesh_v, vertices, rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(output.mesh_f, faces, err_msg=name)
        mesh = trimesh.Trimesh(output.mesh_v, output.mesh_f[:, ::-1])
        assert mesh.volume == pytest.approx(case["export_volume"], rel=1e-3)
        assert mesh.area == pytest.approx(case["export_area"], rel=1e-3)
        assert mesh.is_watertight == case["watertight"]


@pytest.mark.parametrize("path", files("shapegen", "surface_mc"), ids=lambda p: p.stem)
def test_center_vertices(path: Path) -> None:
    vector = load(path)
    if "center.vertices" not in vector.outputs:
        pytest.skip("this file has no centring case")
    given = vector.inputs["center.vertices"]
    torch.testing.assert_close(center_vertices(given), vector.outputs["center.vertices"], rtol=0, atol=1e-6)
