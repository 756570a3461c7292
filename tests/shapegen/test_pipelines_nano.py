"""The embedded model end to end, small: a picture becomes a closed mesh, the same one every time."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from torch import Tensor

from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT
from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline
from tests.shapegen import toys


@cache
def pipe() -> Hunyuan3DDiTFlowMatchingPipeline:
    return Hunyuan3DDiTFlowMatchingPipeline.from_pretrained("nano", device="cpu")


@cache
def latents() -> Tensor:
    return pipe()(image=toys.picture(256), num_inference_steps=6, seed=7, output_type="latent")


def mesh_of(decoder: str, **options: Any) -> trimesh.Trimesh:
    pipe().set_decoder(decoder)
    [mesh] = pipe()(
        image=toys.picture(256),
        **{"num_inference_steps": 6, "guidance_scale": 4.0, "seed": 7, "octree_resolution": 32, **options},
    )
    return mesh


def test_a_ball_becomes_a_closed_mesh_of_a_balls_proportions() -> None:
    mesh = mesh_of("hierarchical")
    assert np.isfinite(mesh.vertices).all() and mesh.is_watertight and mesh.volume > 0
    sides = np.sort(mesh.extents)
    assert 1.2 < sides[2] < 2.02 and sides[0] > 0.5 * sides[2]
    filled = mesh.volume / np.prod(mesh.extents)
    assert 0.3 < filled < 0.8  # a ball fills π/6 of its box


def test_the_same_seed_gives_the_same_mesh() -> None:
    first, again, other = mesh_of("hierarchical"), mesh_of("hierarchical"), mesh_of("hierarchical", seed=8)
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    assert first.vertices.shape != other.vertices.shape or not np.array_equal(first.vertices, other.vertices)


def test_the_hierarchical_mesh_is_the_dense_mesh() -> None:
    meshes = []
    for decoder in ("dense", "hierarchical"):
        pipe().set_decoder(decoder)
        meshes += pipe()._export(latents(), octree_resolution=48)
    dense, sparse = meshes
    assert dense.faces.shape == sparse.faces.shape
    assert np.abs(np.sort(dense.vertices, axis=0) - np.sort(sparse.vertices, axis=0)).max() < 1e-4


def test_the_decoders_tile_does_not_change_the_mesh() -> None:
    """Memory plans choose it by the room there is; products of other sizes may round differently, no more."""
    vae = pipe()._raw_vae
    features = vae(latents() / vae.scale_factor)
    usual, *others = (
        vae.latents2mesh(features, octree_resolution=48, num_chunks=1 << 15, tile_points=tile)[0]
        for tile in (2048, 1024, 8192, 16384)
    )
    assert len(usual.mesh_f) > 1000
    for mesh in others:
        assert np.array_equal(mesh.mesh_f, usual.mesh_f)
        assert np.abs(mesh.mesh_v - usual.mesh_v).max() < 1e-5


def test_one_token_for_no_picture_gives_the_mesh_of_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling enlarges rounding: a change of 1e-6 in the noise moves vertices as far. A cell has a side of 0.063."""
    one = mesh_of("hierarchical")
    monkeypatch.delattr(Hunyuan3DDiT, "prepare_guided")
    every = mesh_of("hierarchical")
    assert one.faces.shape == every.faces.shape
    assert cKDTree(one.vertices).query(every.vertices)[0].max() < 5e-3
    assert abs(one.volume / every.volume - 1) < 1e-4


def test_a_field_without_a_surface_gives_none() -> None:
    """D: the list may hold None; whoever asked decides what to say."""
    assert pipe()._export(latents(), octree_resolution=16, mc_level=50.0) == [None]
