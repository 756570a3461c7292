"""Which point of the surface each texel shows. It knows charts and gutters, no pictures and no cameras.

Texel centres lie at u = (column + 0.5) / size, as viewers sample textures (the paint stage's own maps use another rule,
see ``rendering.maps.draw_atlas``). A gutter of some texels around every chart continues the nearest face beyond its
edge, so that bilinear filtering at a seam finds the colour that belongs there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from hy3dgen.errors import MeshError
from hy3dgen.meshes.cleanup import check
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import frame, to_renderer_space
from hy3dgen.rendering.jit import compiled, run_bands
from hy3dgen.rendering.rasterizers import rasterize
from hy3dgen.rendering.surface import finite_points, smooth_normals, welded

GUTTER_TEXELS = 3
_FARTHEST = -1.0
"""How far outside its face a gutter texel may lie, as a barycentric weight; slivers would send it anywhere."""


@dataclass(frozen=True)
class Surface:
    """The framed surface in renderer space that texels refer to.

    positions: (V, 3) float32; normals: (V, 3) float32, outward, without seams; faces: (F, 3) int32
    points: (V,) int32, equal for vertices at one position
    """

    positions: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    points: np.ndarray

    @staticmethod
    def of(mesh: Mesh) -> Surface:
        """Frame a mesh as ``rendering.surface.prepare_mesh`` does, with the same errors."""
        check(mesh)
        vertices = finite_points(mesh.vertices)
        faces = np.ascontiguousarray(mesh.faces, np.int32)
        return Surface(
            np.ascontiguousarray(frame(to_renderer_space(vertices))[0], np.float32),
            np.ascontiguousarray(to_renderer_space(smooth_normals(vertices, faces))),
            faces,
            welded(vertices),
        )


@dataclass(frozen=True)
class Texels:
    """A grid of surface points.

    face_ids: (H, W) int32, face index + 1, 0 where no chart and no gutter lies
    barycentrics: (H, W, 3) float32; a weight may lie outside [0, 1] in the gutter
    chart: (H, W) bool, without the gutter
    """

    face_ids: np.ndarray
    barycentrics: np.ndarray
    chart: np.ndarray


def texels_of(mesh: Mesh, size: int, *, gutter: int = GUTTER_TEXELS, device: torch.device | str = "cpu") -> Texels:
    """Find the surface point of every texel of a (size, size) texture.

    Raises MeshError for a mesh without uv, or whose uv cover no texel.
    """
    if mesh.uv is None:
        raise MeshError("the mesh has no texture coordinates to paint onto; unwrap it first")
    uv = np.array(mesh.uv, np.float32)
    uv[:, 1] = 1 - uv[:, 1]
    pixel = (uv * np.float32(size) - np.float32(0.5)) / np.float32(max(size - 1, 1))
    clip = np.zeros((len(uv), 4), np.float32)
    clip[:, :2], clip[:, 3] = pixel * 2 - 1, 1
    faces = np.ascontiguousarray(mesh.faces, np.int32)
    raster = rasterize(torch.from_numpy(clip).to(device), torch.from_numpy(faces).to(device), (size, size))
    ids, barycentrics = raster.face_ids.cpu().numpy(), raster.barycentrics.cpu().numpy()
    chart = ids > 0
    if not chart.any():
        raise MeshError(f"the texture coordinates of the mesh cover none of {size} x {size} texels; unwrap it again")
    corners = np.ascontiguousarray(uv * np.float32(size))
    for _ in range(gutter):
        before = ids.copy()
        run_bands(_grow_band, size, before, corners, faces, ids, barycentrics)
    return Texels(ids, barycentrics, chart)


def texels_of_points(surface: Surface) -> Texels:
    """One texel, (N, 1), for every distinct position of the surface; positions without a face show nothing."""
    count = int(surface.points.max()) + 1
    ids = np.zeros((count, 1), np.int32)
    corners = surface.points[surface.faces]
    ids[corners.reshape(-1), 0] = np.repeat(np.arange(1, len(corners) + 1), 3)
    match = corners[ids[:, 0] - 1] == np.arange(count)[:, None]
    barycentrics = match / np.maximum(match.sum(1, keepdims=True), 1)
    return Texels(ids, np.ascontiguousarray(barycentrics[:, None], np.float32), ids > 0)


@compiled
def _grow_band(first, end, before, corners, faces, ids, barycentrics):
    """Give each empty texel beside a filled one the neighbouring face that it lies least outside of."""
    height, width = before.shape
    for row in range(first, end):
        for column in range(width):
            if before[row, column] > 0:
                continue
            best = np.float32(-1e30)
            for dr in range(-1, 2):
                for dc in range(-1, 2):
                    r, c = row + dr, column + dc
                    if r < 0 or c < 0 or r >= height or c >= width or before[r, c] == 0:
                        continue
                    f = before[r, c] - 1
                    ax, ay = corners[faces[f, 0], 0], corners[faces[f, 0], 1]
                    bx, by = corners[faces[f, 1], 0], corners[faces[f, 1], 1]
                    cx, cy = corners[faces[f, 2], 0], corners[faces[f, 2], 1]
                    area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)
                    if area == 0:
                        continue
                    px, py = np.float32(column) + np.float32(0.5), np.float32(row) + np.float32(0.5)
                    v = ((cx - ax) * (py - ay) - (px - ax) * (cy - ay)) / area
                    w = ((px - ax) * (by - ay) - (bx - ax) * (py - ay)) / area
                    u = np.float32(1) - v - w
                    outside = min(u, v, w)
                    if outside <= best:
                        continue
                    best = outside
                    if outside < _FARTHEST:
                        u, v, w = max(u, np.float32(0)), max(v, np.float32(0)), max(w, np.float32(0))
                        total = u + v + w
                        u, v, w = u / total, v / total, w / total
                    ids[row, column] = f + 1
                    barycentrics[row, column, 0] = u
                    barycentrics[row, column, 1] = v
                    barycentrics[row, column, 2] = w
