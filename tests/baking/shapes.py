"""A sphere with UV seams, a smooth colour on it, and pictures of that colour."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import trimesh
from PIL import Image

from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.maps import draw
from hy3dgen.rendering.rasterizers import interpolate
from hy3dgen.rendering.surface import prepare_mesh


def _cube_atlas(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Six charts, one per main direction of the face: (vertices, faces, uv) with vertices split between charts."""
    centre = vertices[faces].mean(axis=1)
    axis = np.abs(centre).argmax(axis=1)
    chart = axis * 2 + (np.take_along_axis(centre, axis[:, None], 1)[:, 0] > 0)
    keys = faces.astype(np.int64) * 6 + chart[:, None]
    unique, inverse = np.unique(keys, return_inverse=True)
    vertex, charts = unique // 6, unique % 6
    points = vertices[vertex]
    across, up = np.array([[1, 2], [2, 0], [0, 1]])[charts // 2].T
    rows = np.arange(len(points))
    flat = np.stack([points[rows, across], points[rows, up]], 1) / np.abs(points).max()
    cell = np.stack([charts % 3, charts // 3], 1)
    uv = (flat * 0.42 + 0.5 + cell) / np.array([3, 2])
    return points, inverse.reshape(-1, 3), uv


@lru_cache(maxsize=2)
def sphere(subdivisions: int = 3) -> Mesh:
    """A unit sphere cut into six charts."""
    shape = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices, faces, uv = _cube_atlas(np.asarray(shape.vertices), np.asarray(shape.faces))
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), uv.astype(np.float32))


def smooth_colour(points: np.ndarray) -> np.ndarray:
    """(N, 3) colours of 0 to 255 that change slowly over the unit sphere."""
    x, y, z = points.T
    return 127 + 90 * np.stack([np.sin(1.3 * x + y), np.cos(y - 0.7 * z), np.sin(z + 0.5 * x * y)], axis=1)


def cup(wall: float = 0.04, around: int = 64) -> tuple[Mesh, np.ndarray]:
    """An open cup of radius 0.5 with a thin wall, one chart: (mesh, which vertices (V,) belong to the inside)."""
    corners = [(0.0, -0.6), (0.5, -0.6), (0.5, 0.6), (0.5 - wall, 0.6), (0.5 - wall, -0.6 + wall), (0.0, -0.6 + wall)]
    outline, inner = [], []
    for index, (start, end) in enumerate(pairwise(np.array(corners))):
        outline.append(start + (end - start) * np.linspace(0, 1, 24)[:, None])  # corners twice, for clean colours
        inner += [index >= 3] * 24
    profile = np.concatenate(outline)
    turn = np.linspace(0, 2 * np.pi, around + 1)
    radius, height = np.broadcast_arrays(profile[:, :1], profile[:, 1:] + 0 * turn)
    vertices = np.stack([radius * np.sin(turn), height, radius * np.cos(turn)], -1).reshape(-1, 3)
    v, u = np.meshgrid(np.linspace(0.02, 0.98, len(profile)), np.linspace(0.02, 0.98, around + 1), indexing="ij")
    first = (np.arange(len(profile) - 1)[:, None] * (around + 1) + np.arange(around)).reshape(-1)
    a, b, c, d = first, first + 1, first + around + 1, first + around + 2
    faces = np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)])
    mesh = Mesh(
        vertices.astype(np.float32), faces.astype(np.int32), np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)
    )
    return mesh, np.repeat(inner, around + 1)


def picture(
    mesh: Mesh, azimuth_deg: float, size: int = 256, colours: np.ndarray | None = None, elevation_deg: float = 0.0
) -> Image.Image:
    """What a camera sees of the colours (V, 3) on the mesh, cut out."""
    values = smooth_colour(mesh.vertices) if colours is None else colours
    drawing = draw(prepare_mesh(mesh), View(azimuth_deg, elevation_deg), (size, size))
    colour = interpolate(torch.from_numpy(values.astype(np.float32)), drawing.mesh.faces, drawing.raster).numpy()
    alpha = drawing.raster.covered.numpy()[..., None] * 255
    return Image.fromarray(np.concatenate([np.rint(colour), alpha], axis=2).astype(np.uint8))


def seam_samples(mesh: Mesh, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """uv on both sides (N, 2) of every edge that is cut in the texture."""
    assert mesh.uv is not None
    welded = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].reshape(-1)
    sides: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for face in mesh.faces:
        for a, b in zip(face, np.roll(face, -1), strict=True):
            ends = (int(a), int(b)) if welded[a] < welded[b] else (int(b), int(a))
            sides.setdefault((int(welded[ends[0]]), int(welded[ends[1]])), []).append(ends)
    cut = [pair for pair in sides.values() if len(pair) == 2 and pair[0] != pair[1]]
    fractions = np.linspace(0, 1, count)[:, None]
    both = [[mesh.uv[a] * (1 - fractions) + mesh.uv[b] * fractions for a, b in pair] for pair in cut]
    left, right = zip(*both, strict=True)
    return np.concatenate(left), np.concatenate(right)


def sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(N, 3) bilinear colours as viewers take them: texel centres at half."""
    size = texture.shape[0]
    x, y = uv[:, 0] * size - 0.5, (1 - uv[:, 1]) * size - 0.5
    c, r = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - c)[:, None], (y - r)[:, None]

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return texture[row.clip(0, size - 1), column.clip(0, size - 1)].astype(np.float64)

    return (at(r, c) * (1 - fx) + at(r, c + 1) * fx) * (1 - fy) + (at(r + 1, c) * (1 - fx) + at(r + 1, c + 1) * fx) * fy
