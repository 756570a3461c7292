"""From cut-out pictures to a clean mesh: the shape pipeline, then floaters, winding and the face budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from PIL import Image

from hy3dgen.errors import NoSurfaceError
from hy3dgen.jobs.options import JobOptions
from hy3dgen.meshes.cleanup import CleanReport, clean
from hy3dgen.meshes.decimate import reduce_faces
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.runtime import seeds
from hy3dgen.runtime.stages import stage


def sample_latents(
    pipeline: Any, views: Mapping[str, Image.Image], options: JobOptions, *, many_views: bool
) -> torch.Tensor:
    """The shape's latents: stages 'condition' and 'denoise'.

    pipeline: a Hunyuan3DDiTFlowMatchingPipeline; views: RGBA by view name; many_views: the model takes them all, else
        it takes the front.
    Returns (1, num_latents, embed_dim), on the pipeline's device.
    """
    picture = dict(views) if many_views else views["front"]
    return pipeline(
        image=picture,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        generator=seeds.generator(options.seed),
        output_type="latent",
    )


def decode_latents(pipeline: Any, latents: torch.Tensor, options: JobOptions) -> Mesh:
    """The surface in the latents, as it comes: stages 'decode' and 'extract'. NoSurfaceError when there is none."""
    [found] = pipeline._export(latents, output_type="mesh", octree_resolution=options.octree_resolution)
    if found is None or len(found.mesh_f) == 0:
        raise NoSurfaceError(
            "the model found no surface in this picture; try another --seed, more --steps, or a picture that shows one "
            "whole object"
        )
    # The extractor's faces look inward; as upstream, they are turned when they leave the pipeline.
    faces = np.ascontiguousarray(np.asarray(found.mesh_f)[:, ::-1], dtype=np.int32)
    return Mesh(np.ascontiguousarray(found.mesh_v, dtype=np.float32), faces)


def tidy(mesh: Mesh, faces: int | None) -> tuple[Mesh, CleanReport]:
    """Stages 'clean' and 'reduce': without broken faces and floaters, and at most ``faces`` triangles.

    Raises NoSurfaceError when nothing is left.
    """
    with stage("clean") as record:
        mesh, report = clean(mesh)
        record.figures.update(asdict(report))
    if len(mesh.faces) == 0:
        raise NoSurfaceError("the surface found in this picture is only crumbs; try another --seed or another picture")
    if faces is not None and len(mesh.faces) > faces:
        with stage("reduce") as record:
            record.figures["faces_before"] = len(mesh.faces)
            mesh = reduce_faces(mesh, faces)
            record.figures["faces"] = len(mesh.faces)
    return mesh, report


def reduce_given(mesh: Mesh, faces: int | None) -> tuple[Mesh, dict[str, Any]]:
    """A mesh that the user brought: as it is, unless they asked for fewer faces (stage 'reduce').

    A reduced mesh loses its UVs, since they belong to the old faces. Returns the mesh and figures for the report.
    """
    if faces is None or len(mesh.faces) <= faces:
        return mesh.with_(texture=None), {}
    with stage("reduce") as record:
        record.figures["faces_before"] = len(mesh.faces)
        reduced = reduce_faces(mesh.with_(uv=None, normals=None, texture=None), faces)
        record.figures["faces"] = len(reduced.faces)
    return reduced, {}
