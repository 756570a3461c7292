"""Normal, position and depth pictures of a view, all from one rasterisation; encodings of the paint networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import torch
from PIL import Image

from hy3dgen.rendering.cameras import View, transform_points
from hy3dgen.rendering.jit import compiled, run_bands
from hy3dgen.rendering.rasterizers import Raster, interpolate, rasterize
from hy3dgen.rendering.surface import RasterMesh

WHITE = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Drawing:
    """One mesh seen by one camera: every map below reads this instead of rasterising again."""

    mesh: RasterMesh
    view: View
    camera: torch.Tensor  # (V, 3) camera-space vertices
    raster: Raster

    @cached_property
    def visible(self) -> torch.Tensor:
        """(H, W, 1) float32, 1 where a face is seen."""
        return self.raster.covered[..., None].float()

    @property
    def camera_normals(self) -> torch.Tensor:
        """(V, 3) float32 vertex normals turned into camera space."""
        rotation = torch.from_numpy(self.view.matrix()[:3, :3]).to(self.mesh.normals.device)
        return self.mesh.normals @ rotation.T


def draw(mesh: RasterMesh, view: View, size: tuple[int, int], *, backend: str = "auto", parity: bool = True) -> Drawing:
    """Rasterise ``mesh`` as ``view`` sees it into (height, width) pixels; parity: by the reference's rules."""
    camera = transform_points(view.matrix(), mesh.positions)
    clip = transform_points(view.projection(), camera)
    return Drawing(mesh, view, camera[:, :3], rasterize(clip, mesh.faces, size, backend=backend, parity=parity))


def _over(values: torch.Tensor, drawing: Drawing, background: tuple[float, ...]) -> torch.Tensor:
    fill = torch.tensor(background, dtype=torch.float32, device=values.device)
    return values * drawing.visible + fill * (1 - drawing.visible)


def normal_map(
    drawing: Drawing, *, camera_space: bool = False, encoded: bool = True, background: tuple[float, ...] = WHITE
) -> torch.Tensor:
    """(H, W, 3) float32 interpolated normals, of renderer space unless ``camera_space``.

    encoded: (n + 1) / 2, the background too; else n in [-1, 1]
    """
    normals = drawing.camera_normals if camera_space else drawing.mesh.normals
    seen = _over(interpolate(normals, drawing.mesh.faces, drawing.raster), drawing, background)
    return (seen + 1) * 0.5 if encoded else seen


def position_map(drawing: Drawing, *, background: tuple[float, ...] = WHITE) -> torch.Tensor:
    """(H, W, 3) float32 in [0, 1]: 0.5 - position / scale_factor of renderer space."""
    encoded = 0.5 - drawing.mesh.positions / drawing.mesh.scale_factor
    return _over(interpolate(encoded, drawing.mesh.faces, drawing.raster), drawing, background)


def depth_map(drawing: Drawing) -> torch.Tensor:
    """(H, W, 1) float32: 1 at the nearest, 0 at the farthest visible point and on the background.

    A view that sees nothing gives zeros; one that sees a single depth gives 1 where it does.
    """
    depth = interpolate(drawing.camera[:, 2:3].contiguous(), drawing.mesh.faces, drawing.raster)
    if depth.device.type == "cpu":
        ids, values = drawing.raster.face_ids.numpy(), depth[..., 0].numpy()
        run_bands(_normalise_band, len(ids), ids, values, *_seen_range(ids, values))
        return depth
    seen = depth[drawing.raster.covered]
    if not len(seen):
        return depth
    low, high = seen.min(), seen.max()
    if high == low:
        return drawing.visible.clone()
    return (depth - low) / (high - low) * drawing.visible


@compiled
def _seen_range(ids, depth):
    """Lowest and highest depth of the covered pixels."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            if ids[row, column] > 0:
                low, high = min(low, depth[row, column]), max(high, depth[row, column])
    return low, high


@compiled
def _normalise_band(first, end, ids, depth, low, high):
    """Covered pixels to [0, 1] between low and high, 1 where those are one; the background to 0."""
    for row in range(first, end):
        for column in range(ids.shape[1]):
            if ids[row, column] == 0:
                depth[row, column] = 0
            elif low == high:
                depth[row, column] = 1
            else:
                depth[row, column] = (depth[row, column] - low) / (high - low)


def to_uint8(values: torch.Tensor) -> np.ndarray:
    """Values of [0, 1] times 255, truncated (not rounded), as a uint8 array of the same shape."""
    # Converted on its device, so that a quarter of the bytes travels.
    return (values.detach() * 255).to(torch.uint8).cpu().numpy()


def depth_edges(depth: torch.Tensor) -> np.ndarray:
    """(H, W) bool edges of a depth map (H, W, 1) in [0, 1], where back projection is not to be trusted."""
    return cv2.Canny(to_uint8(depth[..., 0]), 30, 80) > 0


def geometry_edges(normals: torch.Tensor, depth: torch.Tensor) -> np.ndarray:
    """(H, W) bool edges of an encoded normal map (H, W, 3), and of the depth map."""
    grey = cv2.cvtColor(to_uint8(normals), cv2.COLOR_RGB2GRAY)
    return (cv2.Canny(grey, 80, 150) > 0) | depth_edges(depth)


def turned_normal_picture(picture: Image.Image | np.ndarray) -> Image.Image:
    """Re-encode a renderer-space normal picture (uint8 RGB) with the axes (-x, z, -y); white stays background."""
    pixels = np.array(picture)
    background = (pixels == 255).all(axis=-1)
    normal = pixels / 255.0 * 2.0 - 1.0
    turned = np.stack([-normal[..., 0], normal[..., 2], -normal[..., 1]], axis=-1)
    encoded = ((turned + 1) * 0.5 * 255).astype(np.uint8)
    encoded[background] = (127, 127, 255)
    return Image.fromarray(encoded)


def draw_atlas(mesh: RasterMesh, size: tuple[int, int], *, backend: str = "auto") -> Raster:
    """Rasterise in texture space with the paint stage's rule: texel centres at u = column / (width - 1)."""
    assert mesh.uv is not None and mesh.uv_faces is not None
    zeros = torch.zeros_like(mesh.uv[:, :1])
    clip = torch.cat([mesh.uv * 2 - 1, zeros, zeros + 1], dim=1)
    return rasterize(clip, mesh.uv_faces, size, backend=backend)
