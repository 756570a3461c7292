"""What a UV map does to a texture: the same six views baked onto it, and the result seen from sides between them.

The surface has a colour that is known everywhere (waves in space), so every pixel of the held-out views has a right
answer, and pixels beside a seam can be told from the others.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image

from hy3dgen.baking.texels import Surface
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.meshes.topology import parts_by_vertex
from hy3dgen.meshes.unwrap import uv_metrics
from hy3dgen.rendering.cameras import View, transform_points
from hy3dgen.rendering.rasterizers import interpolate, rasterize
from hy3dgen.texgen.projection import PictureView, project_pictures

SIX_VIEWS = ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90))
_BETWEEN = ((45, 20), (135, -20), (225, 20), (315, -20))
_WAVES = np.array([[19.0, 7.0, -5.0], [-6.0, 23.0, 9.0], [11.0, -8.0, 27.0]])


def _colours(positions: np.ndarray) -> np.ndarray:
    """(..., 3) float 0 to 255 at framed positions (..., 3)."""
    return 128 + 90 * np.sin(positions @ _WAVES.T)


def _drawn(mesh: Mesh, view: View, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face of each pixel (-1 where none), UVs and framed positions there."""
    surface = Surface.of(mesh)
    faces = torch.from_numpy(surface.faces)
    camera = transform_points(view.matrix(), torch.from_numpy(surface.positions))
    raster = rasterize(transform_points(view.projection(), camera), faces, (size, size))
    assert mesh.uv is not None
    uv = interpolate(torch.from_numpy(mesh.uv), faces, raster).numpy()
    positions = interpolate(torch.from_numpy(surface.positions), faces, raster).numpy()
    return raster.face_ids.numpy() - 1, uv, positions


def six_pictures(mesh: Mesh, size: int = 1024) -> list[PictureView]:
    """The mesh in its known colours from six sides, cut out. mesh: with uv (only its outline and surface matter)."""
    pictures = []
    for azimuth, elevation in SIX_VIEWS:
        face, _, positions = _drawn(mesh, View(azimuth, elevation), size)
        alpha = np.where(face >= 0, 255, 0)[..., None]
        pixels = np.concatenate([_colours(positions), alpha], 2).round().astype(np.uint8)
        pictures.append(PictureView(Image.fromarray(pixels), azimuth, elevation))
    return pictures


def baked(mesh: Mesh, pictures: list[PictureView], size_px: int) -> Mesh:
    """The mesh with the pictures as its texture."""
    return project_pictures(mesh, pictures, texture_size=size_px, device="cpu").mesh


def judged(mesh: Mesh, size: int = 1024) -> dict[str, float | int]:
    """How well a baked mesh shows its known colours from between the six sides, beside seams and elsewhere."""
    assert mesh.uv is not None and mesh.texture is not None
    chart = parts_by_vertex(mesh.faces, len(mesh.vertices))
    side = len(mesh.texture)
    squared: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for azimuth, elevation in _BETWEEN:
        face, uv, positions = _drawn(mesh, View(azimuth, elevation), size)
        column, row = uv[..., 0] * side - 0.5, (1 - uv[..., 1]) * side - 0.5
        seen = cv2.remap(mesh.texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        number = np.where(face >= 0, chart[face], -1).astype(np.float32)
        solid = cv2.erode((face >= 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        border = cv2.dilate(number, np.ones((3, 3), np.uint8)) != cv2.erode(number, np.ones((3, 3), np.uint8))
        error = np.square(seen.astype(float) - _colours(positions)).mean(2)
        for at_seam in (True, False):
            squared[at_seam].append(error[solid & (border == at_seam)])
    beside, elsewhere = np.concatenate(squared[True]), np.concatenate(squared[False])
    return {
        "coverage": round(uv_metrics(mesh, side).coverage, 4),
        "charts": int(chart.max()) + 1,
        "seam_pixels_share": round(len(beside) / (len(beside) + len(elsewhere)), 4),
        "psnr_db": _psnr(np.concatenate([beside, elsewhere])),
        "psnr_at_seams_db": _psnr(beside),
        "psnr_elsewhere_db": _psnr(elsewhere),
    }


def _psnr(squared: np.ndarray) -> float:
    return round(float(10 * np.log10(255**2 / squared.mean())), 2) if len(squared) else float("inf")
