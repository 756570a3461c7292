"""A mesh becomes the points that the shape encoder reads: uniform on the surface and, on request, along sharp edges.

Random draws come from the generator that a caller passes; without one, the draws are the same every time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from hy3dgen.errors import InputError, MeshError
from hy3dgen.meshes.io import from_trimesh, read_mesh

__all__ = [
    "SurfaceLoader",
    "SharpEdgeSurfaceLoader",
    "normalize_mesh",
    "sample_pointcloud",
    "load_surface",
    "sharp_sample_pointcloud",
    "load_surface_sharpegde",
]

UNIFORM_SCALE, SHARP_SCALE = 0.98, 0.9999
SHARP_BELOW = 0.985  # cosine between a vertex's and a face's normal
NUM_UNIFORM_SAMPLES, NUM_SHARP_SAMPLES = 200_000, 249_856


def normalize_mesh(mesh: trimesh.Trimesh, scale: float = 0.9999) -> trimesh.Trimesh:
    """A copy with its box centred at the origin and its longest side spanning [-scale, scale]."""
    low, high = mesh.bounds
    extent = float((high - low).max())
    if extent <= 0:
        raise MeshError("all vertices of the mesh are in one place, so it cannot be normalised")
    copy = mesh.copy()
    copy.apply_translation(-(low + high) / 2)
    copy.apply_scale(2 * scale / extent)
    return copy


def sample_pointcloud(
    mesh: trimesh.Trimesh, num: int = 200000, generator: np.random.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """(points, normals), (num, 3) float32 each: uniform by area, with the normals of their faces."""
    points, faces = trimesh.sample.sample_surface(mesh, num, seed=_or_default(generator))
    return torch.from_numpy(np.array(points, np.float32)), torch.from_numpy(
        np.array(mesh.face_normals[faces], np.float32)
    )


def load_surface(
    mesh: trimesh.Trimesh, num_points: int = 8192, generator: np.random.Generator | None = None
) -> tuple[Tensor, trimesh.Trimesh]:
    """((1, num_points, 6) float32 position ⊕ normal, the normalised mesh)."""
    generator = _or_default(generator)
    mesh = normalize_mesh(mesh, UNIFORM_SCALE)
    surface = torch.cat(sample_pointcloud(mesh, max(num_points, NUM_UNIFORM_SAMPLES), generator), dim=1)
    return _choose(surface, num_points, generator)[None], mesh


def sharp_vertices(mesh: trimesh.Trimesh) -> np.ndarray:
    """(V,) bool: vertices whose normal differs from that of a face.

    Published encoders were trained with the last face of each corner slot deciding, not the sharpest: kept.
    """
    sharpness = np.ones(len(mesh.vertices))
    for corner in range(3):
        at = mesh.faces[:, corner]
        cosine = np.einsum("fi,fi->f", mesh.vertex_normals[at], mesh.face_normals)
        sharpness[at] = np.minimum(sharpness[at], cosine)  # of repeated vertices the last assignment stays
    return sharpness < SHARP_BELOW


def sharp_sample_pointcloud(
    mesh: trimesh.Trimesh,
    num: int = 16384,
    generator: np.random.Generator | None = None,
    *,
    draws: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(points, normals), (num, 3) float64 each, along edges with two sharp ends; normals are not unit vectors.

    draws: uniforms in [0, 1) to use instead of the generator's: (num,) for the edges, (num, 1) for the places on them.
    A mesh without sharp edges gives (0, 3) arrays.
    """
    sharp = sharp_vertices(mesh)
    start = np.asarray(mesh.faces).reshape(-1)
    end = np.asarray(mesh.faces)[:, [1, 2, 0]].reshape(-1)
    # directed edges, all 0→1 first, then 1→2, then 2→0
    start, end = (side.reshape(-1, 3).T.reshape(-1) for side in (start, end))
    both = sharp[start] & sharp[end]
    start, end = start[both], end[both]
    lengths = np.linalg.norm(mesh.vertices[start] - mesh.vertices[end], axis=1)
    if num == 0 or lengths.sum() == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    if draws is None:
        generator = _or_default(generator)
        draws = generator.random(num), generator.random((num, 1))
    which, weight = draws
    edge = np.searchsorted(np.cumsum(lengths / lengths.sum()), which).clip(max=len(lengths) - 1)
    start, end = start[edge], end[edge]
    points = weight * mesh.vertices[start] + (1 - weight) * mesh.vertices[end]
    normals = weight * mesh.vertex_normals[start] + (1 - weight) * mesh.vertex_normals[end]
    return np.asarray(points), np.asarray(normals)


def load_surface_sharpegde(
    mesh: trimesh.Trimesh | trimesh.Scene,
    num_points: int = 4096,
    num_sharp_points: int = 4096,
    sharpedge_flag: bool = True,
    generator: np.random.Generator | None = None,
) -> tuple[Tensor, trimesh.Trimesh]:
    """((1, num_points + num_sharp_points, 7) float32, the normalised mesh): position ⊕ normal ⊕ label.

    Uniform points first (label 0), then sharp ones (label 1); without ``sharpedge_flag`` there is no label column.
    Values are rounded through float16, as the encoders were trained. A smooth mesh, which has no sharp edges, is
    sampled uniformly in their place, with the label of sharp points.
    """
    generator = _or_default(generator)
    whole = normalize_mesh(_plain_trimesh(mesh), SHARP_SCALE)
    parts = []
    if num_points:
        surface = torch.cat(sample_pointcloud(whole, max(num_points, NUM_SHARP_SAMPLES), generator), dim=1)
        parts.append(_labelled(_choose(surface, num_points, generator), 0.0))
    if num_sharp_points:
        found = sharp_sample_pointcloud(whole, max(num_sharp_points, NUM_SHARP_SAMPLES), generator)
        surface = torch.from_numpy(np.concatenate(found, axis=1)).float()
        if len(surface) == 0:
            surface = torch.cat(sample_pointcloud(whole, num_sharp_points, generator), dim=1)
        parts.append(_labelled(_choose(surface, num_sharp_points, generator), 1.0))
    if not parts:
        raise InputError("a surface of 0 uniform and 0 sharp points was asked for; one of them must be positive")
    result = torch.cat(parts).half().float()
    return (result if sharpedge_flag else result[:, :6])[None], whole


class SurfaceLoader:
    """Meshes or paths to (1, num_points, 6)."""

    def __init__(self, num_points: int = 8192) -> None:
        self.num_points = num_points

    def __call__(
        self, mesh_or_mesh_path: Any, num_points: int | None = None, generator: np.random.Generator | None = None
    ) -> Tensor:
        """(1, n, 6) float32 position ⊕ normal. Raises MeshError for an unusable mesh."""
        return load_surface(_plain_trimesh(mesh_or_mesh_path), _given(num_points, self.num_points), generator)[0]


class SharpEdgeSurfaceLoader:
    """Meshes or paths to (1, uniform + sharp, 7). Pass the pc sizes of the VAE's config; the defaults fit none."""

    def __init__(self, num_uniform_points: int = 8192, num_sharp_points: int = 8192) -> None:
        self.num_uniform_points = num_uniform_points
        self.num_sharp_points = num_sharp_points

    def __call__(
        self,
        mesh_or_mesh_path: Any,
        num_uniform_points: int | None = None,
        num_sharp_points: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> Tensor:
        """(1, n, 7) float32 position ⊕ normal ⊕ label. Raises MeshError for an unusable mesh."""
        uniform = _given(num_uniform_points, self.num_uniform_points)
        sharp = _given(num_sharp_points, self.num_sharp_points)
        return load_surface_sharpegde(_plain_trimesh(mesh_or_mesh_path), uniform, sharp, generator=generator)[0]


def _plain_trimesh(source: Any) -> trimesh.Trimesh:
    """One mesh with merged vertices from a path, a scene or a mesh (used as it is)."""
    if isinstance(source, trimesh.Trimesh):
        if len(source.faces) == 0:
            raise MeshError("the mesh has no faces, so its surface cannot be sampled")
        return source
    if isinstance(source, (str, os.PathLike)):
        mesh = read_mesh(Path(source))
    elif isinstance(source, trimesh.Scene):
        mesh = from_trimesh(source)
    else:
        raise MeshError(
            f"a mesh was given as {type(source).__name__}; expected a path, trimesh.Trimesh or trimesh.Scene"
        )
    return trimesh.Trimesh(mesh.vertices, mesh.faces)  # merges vertices at one place


def _labelled(surface: Tensor, label: float) -> Tensor:
    return torch.cat([surface, torch.full((len(surface), 1), label)], dim=1)


def _choose(surface: Tensor, count: int, generator: np.random.Generator) -> Tensor:
    """``count`` different rows, in random order."""
    return surface[torch.from_numpy(generator.choice(len(surface), count, replace=False))]


def _given(value: int | None, default: int) -> int:
    return default if value is None else value


def _or_default(generator: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if generator is None else generator
