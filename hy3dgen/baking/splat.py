"""Forward projection as the paint stage defines it: pixels of a view are splatted onto the texture.

Kept for equality with recorded results. ``project`` is the better path: it asks every texel for its pixel instead, so
that no holes remain between samples.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.rendering.jit import compiled, run_bands
from hy3dgen.rendering.maps import Drawing, depth_edges, depth_map
from hy3dgen.rendering.rasterizers import interpolate


def splat(
    height: int, width: int, coordinates: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add samples to a grid with bilinear weights.

    coordinates: (N, 2) float32 in [0, 1], (row, column) over (height - 1, width - 1); values: (N, C) float32
    Returns (sums (height, width, C), weights (height, width, 1)) float32; both at least 2 texels high and wide.
    Deterministic on the CPU; on CUDA the order of the sums is not.
    """
    if height < 2 or width < 2:
        raise UsageError(f"a texture of {height} x {width} is too small to splat onto; both must be at least 2")
    if values.device.type == "cpu":
        totals = np.zeros((height, width, values.shape[1]), np.float32)
        counts = np.zeros((height, width, 1), np.float32)
        _splat(_array(coordinates), _array(values), totals, counts)
        return torch.from_numpy(totals), torch.from_numpy(counts)
    extent = values.new_tensor([height - 1, width - 1])
    position = coordinates * extent
    base = torch.minimum(position.floor().clamp(min=0), extent - 1)
    fraction = position - base
    flat = base[:, 0].long() * width + base[:, 1].long()
    sums = values.new_zeros(height * width, values.shape[1])
    weights = values.new_zeros(height * width, 1)
    for row in (0, 1):
        for column in (0, 1):
            weight = (fraction[:, :1] if row else 1 - fraction[:, :1]) * (
                fraction[:, 1:] if column else 1 - fraction[:, 1:]
            )
            sums.index_add_(0, flat + row * width + column, values * weight)
            weights.index_add_(0, flat + row * width + column, weight)
    return sums.view(height, width, -1), weights.view(height, width, 1)


def splat_mean(height: int, width: int, coordinates: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(height, width, C): mean of the samples that reach each texel, 0 where none does. Arguments as ``splat``."""
    sums, weights = splat(height, width, coordinates, values)
    return torch.where(weights > 0, sums / weights.clamp(min=torch.finfo(torch.float32).tiny), sums.new_zeros(()))


@compiled
def _splat(coordinates, values, sums, weights):
    for n in range(coordinates.shape[0]):
        _add_sample(coordinates[n, 0], coordinates[n, 1], values[n], sums, weights, 0, sums.shape[0])


@compiled
def _add_sample(down, across, values, sums, weights, first, end):
    """Add one sample at (down, across) in [0, 1] to the rows ``first`` to ``end``, exclusive, of the sums."""
    height, width = sums.shape[0], sums.shape[1]
    one = np.float32(1)
    row = down * np.float32(height - 1)
    column = across * np.float32(width - 1)
    if not (math.isfinite(row) and math.isfinite(column)):
        return
    r = min(max(math.floor(row), 0), height - 2)
    c = min(max(math.floor(column), 0), width - 2)
    fr, fc = row - np.float32(r), column - np.float32(c)
    for dr in range(2):
        if r + dr < first or r + dr >= end:
            continue
        wr = fr if dr == 1 else one - fr
        for dc in range(2):
            weight = wr * (fc if dc == 1 else one - fc)
            weights[r + dr, c + dc, 0] += weight
            for k in range(values.shape[0]):
                sums[r + dr, c + dc, k] += values[k] * weight


def _array(values: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)


def facing(drawing: Drawing, limit_deg: float) -> torch.Tensor:
    """(H, W) float32 cosine between surface and view, 0 beyond ``limit_deg`` and on the background.

    Normals point inward in renderer space, so a surface that faces the camera has the direction (0, 0, -1).
    """
    normals = interpolate(drawing.camera_normals, drawing.mesh.faces, drawing.raster)
    towards = torch.zeros(3, device=normals.device)
    towards[2] = -1
    cosine = torch.nn.functional.cosine_similarity(towards.expand_as(normals), normals, dim=-1)
    return torch.where(cosine < math.cos(math.radians(limit_deg)), cosine.new_zeros(()), cosine)


def reliable(drawing: Drawing, margin_px: int) -> torch.Tensor:
    """(H, W) bool: covered pixels with neither background nor a depth edge within ``margin_px`` (square window)."""
    edges, background, side = depth_edges(depth_map(drawing)), drawing.raster.face_ids == 0, 2 * margin_px + 1
    if background.device.type == "cpu":
        unsafe = (background.numpy() | edges).view(np.uint8)
        grown = cv2.dilate(unsafe, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return torch.from_numpy(grown == 0)
    near = (background | torch.from_numpy(edges).to(background.device)).float()[None, None]
    pool = torch.nn.functional.max_pool2d  # the square as a column of rows
    near = pool(pool(near, [side, 1], [1, 1], [margin_px, 0]), [1, side], [1, 1], [0, margin_px])
    return near[0, 0] == 0


def back_project(
    image: torch.Tensor, drawing: Drawing, texture_size: tuple[int, int], *, limit_deg: float = 75, margin_px: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Splat one picture onto the texture.

    image: (H, W, C) float32, as large as the drawing
    limit_deg: surfaces turned further away get trust 0; margin_px: distance kept from silhouettes and depth edges
    Returns (texture (T, T, C), trust (T, T, 1)) float32; the colour is a plain mean, the trust the mean cosine.
    A view that sees nothing gives zeros. Raises UsageError when the sizes differ, MeshError for a mesh without uv.
    """
    if tuple(image.shape[:2]) != tuple(drawing.raster.face_ids.shape):
        raise UsageError(f"the picture is {tuple(image.shape[:2])}, its view {tuple(drawing.raster.face_ids.shape)}")
    mesh = drawing.mesh
    if mesh.uv is None or mesh.uv_faces is None:
        raise MeshError("the mesh has no texture coordinates to bake onto; unwrap it first")
    safe = reliable(drawing, margin_px)
    if image.device.type == "cpu":
        return _back_project_on_cpu(image, drawing, safe, texture_size, math.cos(math.radians(limit_deg)))
    uv = interpolate(mesh.uv, mesh.uv_faces, drawing.raster)[safe]
    samples = torch.cat([image[safe].float(), facing(drawing, limit_deg)[safe][:, None]], dim=1)
    mean = splat_mean(*texture_size, uv.flip(1), samples)
    return mean[..., :-1], mean[..., -1:]


def _back_project_on_cpu(
    image: torch.Tensor, drawing: Drawing, safe: torch.Tensor, texture_size: tuple[int, int], limit: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """``back_project`` in one pass over the pixels for each band of texels; pixels keep their order in every texel."""
    height, width = texture_size
    if height < 2 or width < 2:
        raise UsageError(f"a texture of {height} x {width} is too small to splat onto; both must be at least 2")
    mesh, raster = drawing.mesh, drawing.raster
    assert mesh.uv is not None and mesh.uv_faces is not None
    sums = np.zeros((height, width, image.shape[2] + 1), np.float32)
    weights = np.zeros((height, width, 1), np.float32)
    run_bands(
        _back_project_band, height, _array(image), safe.numpy(), raster.face_ids.numpy(), raster.barycentrics.numpy(),
        _array(mesh.uv), mesh.uv_faces.numpy(), _array(drawing.camera_normals), mesh.faces.numpy(), np.float32(limit),
        sums, weights, bands_per_thread=1,
    )  # fmt: skip
    means = torch.from_numpy(sums)
    return means[..., :-1], means[..., -1:]


@compiled
def _back_project_band(first, end, image, safe, ids, barycentrics, uv, uv_faces, normals, faces, limit, sums, weights):
    """Splat every safe pixel whose texels lie in the rows of this band, then turn the band's sums into means."""
    height, last, channels = sums.shape[0], np.float32(sums.shape[0] - 1), image.shape[2]
    values = np.zeros(channels + 1, np.float32)
    for row in range(ids.shape[0]):
        for column in range(ids.shape[1]):
            if not safe[row, column]:
                continue
            f = ids[row, column] - 1
            u, v, w = barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2]
            a, b, c = uv_faces[f, 0], uv_faces[f, 1], uv_faces[f, 2]
            down = u * uv[a, 1] + v * uv[b, 1] + w * uv[c, 1]
            if not math.isfinite(down):
                continue
            top = min(max(math.floor(down * last), 0), height - 2)
            if top + 1 < first or top >= end:
                continue
            across = u * uv[a, 0] + v * uv[b, 0] + w * uv[c, 0]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
            ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
            nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
            length = max(np.float32(math.sqrt(nx * nx + ny * ny + nz * nz)), np.float32(1e-8))
            for k in range(channels):
                values[k] = image[row, column, k]
            values[channels] = -nz / length if -nz / length >= limit else np.float32(0)
            _add_sample(down, across, values, sums, weights, first, end)
    for row in range(first, end):
        for column in range(sums.shape[1]):
            weight = weights[row, column, 0]
            if weight > 0:
                for k in range(channels + 1):
                    sums[row, column, k] /= weight
