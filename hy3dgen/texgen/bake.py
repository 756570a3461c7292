"""From the renderer's mesh and painted views to a texture: maps, projection, merging, filling.

One rasterisation a view serves its normal map, its position map and the projection; between them it waits in host
memory, so that the networks have the device to themselves. Where drawing is faster than carrying, it is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from PIL import Image

from hy3dgen.baking.blend import Merge
from hy3dgen.baking.fill import pull_push
from hy3dgen.baking.inpaint import spread_over_vertices
from hy3dgen.baking.splat import back_project
from hy3dgen.errors import UsageError
from hy3dgen.rendering import maps
from hy3dgen.rendering.rasterizers import Raster, automatic, interpolate
from hy3dgen.rendering.surface import RasterMesh, welded
from hy3dgen.runtime.stages import steps

if TYPE_CHECKING:
    from hy3dgen.texgen.differentiable_renderer.mesh_render import MeshRender

BAND_TEXELS = 3
"""Unknown texels this near to known ones continue them; farther ones take the colours of the mesh's vertices."""


class Drawings:
    """The views of a renderer's mesh, each rasterised once.

    On a GPU a raster's way to the host and back takes longer than drawing it (``benchmarks/results/geometry_gpu.json``:
    54 against 2 ms with Triton, 16 ms without), so there nothing is kept.
    """

    def __init__(self, render: MeshRender) -> None:
        self._render = render
        self._kept: dict[tuple[float, float, tuple[int, int]], tuple[torch.Tensor, Raster]] = {}
        self._mesh: RasterMesh | None = None

    def view(self, elevation_deg: float, azimuth_deg: float, *, keep: bool = True) -> maps.Drawing:
        """What this camera sees of the mesh that the renderer holds now, at the renderer's resolution.

        keep: hold the raster for the next call; without it one that was held before still serves
        """
        mesh, size = self._render.mesh, self._render.default_resolution
        if mesh is not self._mesh:
            self._mesh, self._kept = mesh, {}
        key, camera = (elevation_deg, azimuth_deg, size), self._render.view(elevation_deg, azimuth_deg)
        keep = keep and automatic(mesh.positions.device) == "numba"
        if key not in self._kept:
            drawing = maps.draw(mesh, camera, size)
            if not keep:
                return drawing
            self._kept[key] = (drawing.camera.cpu(), _moved(drawing.raster, "cpu"))
            return drawing
        positions, raster = self._kept[key]
        device = mesh.positions.device
        return maps.Drawing(mesh, camera, positions.to(device), _moved(raster, device))

    def forget(self) -> None:
        """Give the kept rasters' memory back."""
        self._mesh, self._kept = None, {}


@dataclass(frozen=True)
class Baked:
    """texture: (T, T, 3) float32 in [0, 1]; painted: (T, T, 1) bool; count: (T, T) int16, views that show a texel."""

    texture: torch.Tensor
    painted: torch.Tensor
    count: torch.Tensor


def bake(
    drawings: Drawings,
    render: MeshRender,
    views: Sequence[Image.Image],
    elevations_deg: Sequence[float],
    azimuths_deg: Sequence[float],
    weights: Sequence[float],
    *,
    exponent: float,
) -> Baked:
    """Project each view onto the texture and merge it at once; trust is weight · cosine ** exponent.

    views: as large as the renderer's resolution, RGB. Raises UsageError when the counts differ.
    """
    if not len(views) == len(elevations_deg) == len(azimuths_deg) == len(weights):
        raise UsageError(f"{len(views)} pictures do not fit {len(azimuths_deg)} views with {len(weights)} weights")
    merge, count = Merge(), None
    cameras: Iterable[tuple[Image.Image, float, float, float]] = zip(
        views, elevations_deg, azimuths_deg, weights, strict=True
    )
    for view, elevation, azimuth, weight in steps(cameras, total=len(views), unit="view"):
        pixels = torch.from_numpy(np.array(view)).to(render.device).float() / 255
        texture, cosine = back_project(
            pixels,
            drawings.view(elevation, azimuth, keep=False),
            render.texture_size,
            limit_deg=render.bake_angle_thres,
            margin_px=render.bake_unreliable_kernel_size,
        )
        trust = weight * cosine**exponent
        count = torch.zeros_like(trust[..., 0], dtype=torch.int16) if count is None else count
        if merge.add(texture, trust):
            count += trust[..., 0] > 0
    if count is None:
        raise UsageError("no view to bake; give at least one")
    texture, painted = merge.result()
    return Baked(texture, painted, count)


def fill_over_surface(texture: np.ndarray, known: np.ndarray, mesh: RasterMesh) -> np.ndarray:
    """Colour what no view shows along the mesh, so that neither seams nor the atlas's empty parts bleed in.

    texture: (T, T, 3) float32 in [0, 1]; known: (T, T) uint8, above 0 where painted; mesh: with uv
    Colours run over the vertex graph with seams closed; texels near known ones continue those instead, and so do
    texels outside the charts. Known texels under no vertex stay as they are. Returns (T, T, 3) uint8.
    """
    assert mesh.uv is not None and mesh.uv_faces is not None
    uv = mesh.uv.cpu().numpy() * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    faces, uv_faces = mesh.faces.cpu().numpy(), mesh.uv_faces.cpu().numpy()
    positions = mesh.positions.cpu().numpy()
    point = welded(positions)
    joined = np.empty((int(point.max(initial=-1)) + 1, 3), np.float32)
    joined[point] = positions
    painted, reached = spread_over_vertices(texture, known, joined, uv, point[faces], uv_faces)

    raster = maps.draw_atlas(mesh, known.shape[:2])
    chart = raster.covered.cpu().numpy()
    colours = _at_vertices(painted, reached, uv)
    spread = interpolate(torch.from_numpy(colours).to(raster.face_ids.device), mesh.uv_faces, raster).cpu().numpy()
    certain = spread[..., 3] > 1 - 1e-4
    far = cv2.distanceTransform((reached == 0).astype(np.uint8), cv2.DIST_L2, 3) > BAND_TEXELS
    take = chart & certain & far & (known == 0)
    pixels = (np.clip(painted, 0, 1) * np.float32(255)).astype(np.uint8)  # cut off, as the reference quantises
    pixels[take] = np.rint(np.clip(spread[take, :3], 0, 1) * np.float32(255)).astype(np.uint8)
    return pull_push(pixels, (reached > 0) | take)


def shares(baked: Baked, mesh: RasterMesh) -> tuple[float, float, float]:
    """Shares of the texels under charts that one view shows, that several show, and that none does; they sum to 1."""
    chart = maps.draw_atlas(mesh, (baked.count.shape[0], baked.count.shape[1])).covered
    count = torch.where(baked.painted[..., 0], baked.count.clamp(min=1), 0)[chart]
    if not len(count):
        return 0.0, 0.0, 0.0
    seen, blended = float((count == 1).float().mean()), float((count > 1).float().mean())
    return seen, blended, max(0.0, 1.0 - seen - blended)


def _at_vertices(texture: np.ndarray, known: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(U, 4) float32: the colour at each vertex's texel, and 1 where it is known."""
    height, width = known.shape
    column = np.clip(np.rint(uv[:, 0] * (width - 1)), 0, width - 1).astype(np.int64)
    row = np.clip(np.rint((1.0 - uv[:, 1]) * (height - 1)), 0, height - 1).astype(np.int64)
    is_known = (known[row, column] > 0)[:, None]
    return np.concatenate([np.where(is_known, texture[row, column], 0), is_known], axis=1).astype(np.float32)


def _moved(raster: Raster, device: torch.device | str) -> Raster:
    return Raster(raster.face_ids.to(device), raster.barycentrics.to(device))
