"""From pictures to a clean mesh: what the pipeline is asked for, and what is made of its answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from hy3dgen.errors import NoSurfaceError
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.shape import decode_latents, reduce_given, sample_latents, tidy
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.topology import is_watertight, volume
from tests.cli.pictures import draw_mug

OPTIONS = JobOptions(steps=7, guidance=3.0, octree_resolution=64, seed=5)


class Pipeline:
    """Remembers what it was asked for."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def __call__(self, **options: Any) -> torch.Tensor:
        self.asked = options
        return torch.rand((1, 4, 2), generator=options["generator"])

    def _export(self, latents: torch.Tensor, **options: Any) -> list[Any]:
        self.asked = options
        return [self.answer]


def sphere() -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=3)


def test_the_options_reach_the_pipeline_and_the_seed_decides() -> None:
    views = {"front": draw_mug(), "left": draw_mug((1, 2, 3))}
    pipeline = Pipeline()
    first = sample_latents(pipeline, views, OPTIONS, many_views=False)
    assert pipeline.asked["image"] is views["front"]
    assert (pipeline.asked["num_inference_steps"], pipeline.asked["guidance_scale"]) == (7, 3.0)
    assert torch.equal(first, sample_latents(pipeline, views, OPTIONS, many_views=True))
    assert pipeline.asked["image"] == views, "a model of several views gets them all"
    assert not torch.equal(first, sample_latents(pipeline, views, OPTIONS.with_(seed=6), many_views=False))


def test_the_surface_leaves_with_its_faces_outward() -> None:
    ball = sphere()
    inward = SimpleNamespace(mesh_v=ball.vertices.astype(np.float64), mesh_f=ball.faces[:, ::-1])
    pipeline = Pipeline(inward)
    mesh = decode_latents(pipeline, torch.zeros((1, 4, 2)), OPTIONS)
    assert pipeline.asked["octree_resolution"] == 64
    assert volume(mesh) > 0 and mesh.vertices.dtype == np.float32 and mesh.faces.dtype == np.int32


@pytest.mark.parametrize("answer", [None, SimpleNamespace(mesh_v=np.zeros((0, 3)), mesh_f=np.zeros((0, 3), int))])
def test_no_surface_says_what_to_try(answer: Any) -> None:
    with pytest.raises(NoSurfaceError, match="try another --seed"):
        decode_latents(Pipeline(answer), torch.zeros((1, 4, 2)), OPTIONS)


def test_crumbs_go_and_the_face_budget_is_kept() -> None:
    ball, crumb = sphere(), sphere()
    crumb.apply_scale(0.05)
    crumb.apply_translation([3, 0, 0])
    both = trimesh.util.concatenate([ball, crumb])
    mesh = Mesh(both.vertices.astype(np.float32), both.faces.astype(np.int32))
    clean, report = tidy(mesh, 400)
    assert report.parts_removed == 1 and len(clean.faces) <= 400
    assert is_watertight(clean) and clean.vertices[:, 0].max() < 2
    whole, _ = tidy(mesh, None)
    assert len(whole.faces) == len(ball.faces)


def test_a_given_mesh_is_only_reduced_when_asked() -> None:
    ball = sphere()
    uv = np.zeros((len(ball.vertices), 2), np.float32)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), uv=uv)
    same, _ = reduce_given(mesh, None)
    assert same.uv is mesh.uv and same.faces is mesh.faces
    fewer, _ = reduce_given(mesh, 300)
    assert len(fewer.faces) <= 300 and fewer.uv is None, "UVs of other faces do not fit"
