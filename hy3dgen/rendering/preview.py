"""A small picture of a mesh for people: softly lit, antialiased, four sides. Not for any network."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from hy3dgen.errors import UsageError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View, to_renderer_space
from hy3dgen.rendering.maps import draw
from hy3dgen.rendering.rasterizers import Raster, interpolate
from hy3dgen.rendering.surface import prepare_mesh, smooth_normals

PREVIEW_AZIMUTHS_DEG = (0.0, 90.0, 180.0, 315.0)
"""Front, the side at +x, back, and three quarters from the front."""
BACKGROUND = (236, 236, 238)
CLAY = (196, 190, 182)
_SUPERSAMPLING = 2
_LIGHTS = (((-0.43, -0.61, 0.66), 0.42), ((0.85, -0.11, 0.51), 0.12))
"""Direction to the light in camera space (x right, y down, z to the viewer), and its strength."""


def render_preview(mesh: Mesh, *, size_px: int = 512) -> np.ndarray:
    """Front, side, back and a three-quarter view in a square of two by two.

    size_px: side of one of the four pictures
    Returns (2 size_px, 2 size_px, 3) uint8 sRGB. Shows the texture when the mesh has texture and uv, else clay.
    Raises UsageError for a size below 1 and MeshError for a mesh without faces.
    """
    pictures = [render_picture(mesh, View(azimuth, 12.0), size_px=size_px) for azimuth in PREVIEW_AZIMUTHS_DEG]
    return np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])


def render_picture(mesh: Mesh, view: View, *, size_px: int = 512, lit: bool = True) -> np.ndarray:
    """One view, (size_px, size_px, 3) uint8 sRGB. ``lit=False`` shows the plain texture colours."""
    if size_px < 1:
        raise UsageError(f"a picture of {size_px} pixels cannot be drawn; size_px must be at least 1")
    fine = size_px * _SUPERSAMPLING
    drawing = draw(prepare_mesh(mesh), view, (fine, fine), parity=False)
    covered = drawing.raster.covered.numpy()
    colours = np.broadcast_to(np.array(CLAY, np.float32), (fine, fine, 3))
    if mesh.texture is not None and mesh.uv is not None:
        assert drawing.mesh.uv is not None and drawing.mesh.uv_faces is not None
        colours = _sampled(mesh.texture, interpolate(drawing.mesh.uv, drawing.mesh.uv_faces, drawing.raster))
    if lit:
        colours = colours * _light(mesh, view, drawing.raster)
    picture = np.where(covered[..., None], colours, np.array(BACKGROUND, np.float32)).astype(np.float32)
    small = cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def render_silhouette(mesh: Mesh, view: View, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: where the framed mesh covers pixels of the view; size is (height, width)."""
    return draw(prepare_mesh(mesh), view, size).raster.covered.numpy()


def _sampled(texture: np.ndarray, uv: torch.Tensor) -> np.ndarray:
    """(H, W, 3) float32 bilinear texture colours at (H, W, 2) coordinates with v down; texel centres at half."""
    height, width = texture.shape[:2]
    column = uv[..., 0].numpy() * width - 0.5
    row = uv[..., 1].numpy() * height - 0.5
    sampled = cv2.remap(texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.astype(np.float32)


def _light(mesh: Mesh, view: View, raster: Raster) -> np.ndarray:
    """(H, W, 1) float32 brightness: an even part, two soft lights, and a little less from below."""
    outward = to_renderer_space(smooth_normals(mesh.vertices, mesh.faces))
    normals = outward @ view.matrix()[:3, :3].T
    seen = interpolate(torch.from_numpy(np.ascontiguousarray(normals)), torch.from_numpy(mesh.faces), raster).numpy()
    seen = seen / np.maximum(np.linalg.norm(seen, axis=-1, keepdims=True), 1e-6)
    brightness = 0.50 - 0.06 * seen[..., 1:2]
    for direction, strength in _LIGHTS:
        half_lambert = (seen @ np.array(direction, np.float32)) * 0.5 + 0.5
        brightness = brightness + strength * (half_lambert**2)[..., None]
    return brightness
