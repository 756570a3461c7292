"""Colours of the whole surface against the true ones, on procedural shapes: projection and the small paint model.

The mesh is that of the known field, so that only the colouring is measured. A texel is unseen when the camera that took
the picture does not see its point. PSNR is in dB over all channels of sRGB values in [0, 1], a mean over shapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange
from PIL import Image
from skimage.measure import marching_cubes

from benchmarks import scoring
from benchmarks.shapes import CATEGORIES, Shape, look
from benchmarks.shapes.folding import fold
from hy3dgen.baking.texels import Texels, texels_of
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.unwrap import unwrap
from hy3dgen.texgen.blended import paint_beside_pictures
from hy3dgen.texgen.locating import is_available
from hy3dgen.texgen.projection import PictureView, project_pictures
from hy3dgen.weights.catalogue import BUILT_IN_PAINT

SIZE_PX = 512
PICTURE_PX = 512
CELLS = 112
LEAST_COSINE = 0.1
"""Surfaces that the camera sees at a flatter angle than this count as unseen."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Painted:
    """A shape as a mesh, with what is known of its texels: points and truth (N, 3), seen (N,) bool."""

    mesh: Mesh
    texels: Texels
    truth: np.ndarray
    seen: np.ndarray
    picture: Image.Image


def subject(solid: Shape, size_px: int = SIZE_PX) -> Painted:
    """Mesh, picture and true colours of a shape."""
    line = np.linspace(-1.0, 1.0, CELLS + 1) * 1.02
    lattice = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    vertices, faces, _, _ = marching_cubes(solid.field(lattice), 0)
    vertices = (vertices * (line[1] - line[0]) + line[0]).astype(np.float32)
    mesh = unwrap(Mesh(vertices, np.ascontiguousarray(faces[:, ::-1], np.int32)), size_px=size_px)
    texels = texels_of(mesh, size_px, gutter=0)
    corners = mesh.faces[texels.face_ids[texels.chart] - 1]
    weights = texels.barycentrics[texels.chart].astype(np.float64)
    points = np.einsum("nk,nkc->nc", weights, mesh.vertices[corners].astype(np.float64))
    a, b, c = (mesh.vertices[corners[:, k]].astype(np.float64) for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    eye = eye_of(solid.camera)
    seen = visible(solid.rows, solid.pose, points, normals, eye, LEAST_COSINE)
    return Painted(mesh, texels, solid.albedo(points), seen, solid.render(PICTURE_PX, samples=2))


def eye_of(camera: look.Camera) -> np.ndarray:
    """(3,) where a camera stands."""
    return camera.distance * np.array([0.0, math.sin(camera.elevation), math.cos(camera.elevation)])


@njit(parallel=True, cache=True, error_model="numpy")
def visible(
    rows: np.ndarray, pose: np.ndarray, points: np.ndarray, normals: np.ndarray, eye: np.ndarray, least: float
) -> np.ndarray:
    """(N,) bool: the point faces ``eye`` (cosine above ``least``) and nothing of the shape is between."""
    out = np.zeros(points.shape[0], np.bool_)
    for i in prange(points.shape[0]):
        wx, wy, wz = eye[0] - points[i, 0], eye[1] - points[i, 1], eye[2] - points[i, 2]
        length = math.sqrt(wx * wx + wy * wy + wz * wz)
        wx, wy, wz = wx / length, wy / length, wz / length
        if wx * normals[i, 0] + wy * normals[i, 1] + wz * normals[i, 2] <= least:
            continue
        t, free = 0.03, True
        for _ in range(160):
            if t > 2.2:  # out of the shape's box
                break
            d = fold(rows, pose, points[i, 0] + t * wx, points[i, 1] + t * wy, points[i, 2] + t * wz)[0]
            if d < 2e-3:
                free = False
                break
            t += max(0.9 * d, 4e-3)
        out[i] = free
    return out


def texture_record(solid: Shape, paint: str | Path | None = None, size_px: int = SIZE_PX) -> Record:
    """PSNR of unseen and seen texels with each way of colouring. paint: a folder that holds a paint model; None takes
    the package's own, and leaves painting out where there is none."""
    item = subject(solid, size_px)
    pictures = [PictureView(item.picture, 0.0)]
    made = {"symmetry_fill": project_pictures(item.mesh, pictures, texture_size=size_px, device="cpu").mesh.texture}
    if paint is not None or is_available(BUILT_IN_PAINT):
        painted = paint_beside_pictures(
            item.mesh, pictures, model=paint or BUILT_IN_PAINT, texture_size=size_px, device="cpu"
        )
        made["paint"] = painted.mesh.texture
    alpha = np.asarray(item.picture)[..., 3:] / 255
    made["flat"] = (np.asarray(item.picture)[..., :3] * alpha).sum((0, 1)) / max(alpha.sum(), 1)
    return dict(_scores(item, made)) | {"unseen_share": round(float((~item.seen).mean()), 4)}


def _scores(item: Painted, made: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, texture in made.items():
        colours = np.asarray(texture, np.float64) / 255
        values = colours[item.texels.chart] if colours.ndim == 3 else np.broadcast_to(colours, item.truth.shape)
        error = np.square(values - item.truth).mean(1)
        for where, mask in (("unseen", ~item.seen), ("seen", item.seen)):
            if mask.any():
                yield f"{name}_{where}_db", round(scoring.decibels(float(error[mask].mean())), 3)


def summary(records: dict[str, Record], size_px: int = SIZE_PX) -> Record:
    """The published figures: means over shapes. ``psnr_unseen_db`` is None without a paint model."""

    def mean(key: str) -> float | None:
        values = [record[key] for record in records.values() if key in record]
        return round(float(np.mean(values)), 2) if len(values) == len(records) and values else None

    return {
        "psnr_unseen_db": mean("paint_unseen_db"),
        "psnr_symmetry_fill_db": mean("symmetry_fill_unseen_db"),
        "psnr_flat_db": mean("flat_unseen_db"),
        "psnr_seen_db": mean("paint_seen_db"),
        "psnr_seen_symmetry_fill_db": mean("symmetry_fill_seen_db"),
        "unseen_share": mean("unseen_share"),
        "count": len(records),
        "texture_px": size_px,
    }


def names(count: int) -> list[tuple[str, int]]:
    """``count`` held-out shapes, all categories in turn."""
    return [(name, index) for index in range(-(-count // len(CATEGORIES))) for name in CATEGORIES][:count]
