"""Rasterisation: the one door to every back end. It knows triangles in clip space, no cameras and no meshes."""

from __future__ import annotations

import numpy as np
import torch

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.rendering.jit import run_bands
from hy3dgen.rendering.rasterizers import numba_cpu, plain_torch, reference, triton_gpu
from hy3dgen.rendering.rasterizers.contract import EXACT, PARITY, Raster, Rasterizer

__all__ = ["BACKENDS", "Raster", "automatic", "interpolate", "rasterize"]

BACKENDS: dict[str, Rasterizer] = {
    "numba": numba_cpu.rasterize,
    "torch": plain_torch.rasterize,
    "triton": triton_gpu.rasterize,
    "reference": reference.rasterize,
}


def rasterize(
    clip: torch.Tensor,
    faces: torch.Tensor,
    size: tuple[int, int],
    *,
    backend: str = "auto",
    depth_prior: torch.Tensor | None = None,
    parity: bool = True,
) -> Raster:
    """Find the face that each pixel shows; rules in ``contract``.

    clip: (V, 4) float32 clip-space points; faces: (F, 3) int; size: (height, width) in pixels
    backend: 'numba' (CPU), 'torch' (CPU, CUDA), 'triton' (CUDA), 'reference' (slow), or 'auto': on CUDA triton where it
    works and else torch; elsewhere numba, which also serves Macs because their GPU lacks float64
    depth_prior: (height, width) float32 normalised device z; what lies nearer is not drawn
    parity: the reference's rules; else the picture's edges are those of device space, and depth is as fine as float32
    Faces are equal on every back end. An empty mesh gives an empty raster.
    Raises MeshError for faces that point outside the vertices, UsageError for a bad shape, size or back end.
    """
    if clip.ndim != 2 or clip.shape[1] != 4 or faces.ndim != 2 or faces.shape[1] != 3:
        raise UsageError(f"expected clip (V, 4) and faces (F, 3), got {tuple(clip.shape)} and {tuple(faces.shape)}")
    height, width = (int(n) for n in size)
    if height < 1 or width < 1:
        raise UsageError(f"cannot draw a picture of {height} x {width} pixels; both must be at least 1")
    if depth_prior is not None and tuple(depth_prior.shape) != (height, width):
        raise UsageError(f"the depth prior is {tuple(depth_prior.shape)}, but the picture is {(height, width)}")
    if backend not in ("auto", *BACKENDS):
        raise UsageError(f"unknown rasteriser '{backend}'; use auto, {', '.join(BACKENDS)}")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(clip)):
        raise MeshError(f"faces point to vertex {int(faces.max())} (lowest {int(faces.min())}) of {len(clip)} vertices")
    if backend == "auto":
        backend = automatic(clip.device)
    return BACKENDS[backend](clip.float(), faces, (height, width), depth_prior, PARITY if parity else EXACT)


def automatic(device: torch.device) -> str:
    """The back end that 'auto' stands for on this device."""
    if device.type in ("cpu", "mps"):
        return "numba"
    return "torch" if triton_gpu.unusable(device) else "triton"


def interpolate(attributes: torch.Tensor, faces: torch.Tensor, raster: Raster) -> torch.Tensor:
    """Carry values from vertices to pixels.

    attributes: (V, C) float32; faces: (F, 3) int, indices into ``attributes``
    Returns (H, W, C) float32 on the raster's device: sum of barycentric times corner value, background 0.
    """
    device = raster.face_ids.device
    height, width = raster.face_ids.shape
    if device.type == "cpu":
        out = np.empty((height, width, attributes.shape[1]), np.float32)
        run_bands(
            numba_cpu.interpolate_band, height,
            np.ascontiguousarray(attributes.detach().cpu().numpy(), dtype=np.float32),
            np.ascontiguousarray(faces.cpu().numpy(), dtype=np.int32),
            raster.face_ids.numpy(), raster.barycentrics.numpy(), out,
        )  # fmt: skip
        return torch.from_numpy(out)
    result = torch.zeros(height, width, attributes.shape[1], device=device)
    triangles, values = faces.to(device).long(), attributes.to(device).float()
    for row in range(0, height, 256):  # bands bound the gathered corners
        ids = raster.face_ids[row : row + 256]
        corner = triangles[(ids.long() - 1).clamp(min=0)]
        weights = raster.barycentrics[row : row + 256]
        for k in range(3):
            result[row : row + 256] += weights[..., k, None] * values[corner[..., k]]
    return result
