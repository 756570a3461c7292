"""The same projection as ``project`` with tensor operations in row bands, for devices other than the CPU."""

from __future__ import annotations

import numpy as np
import torch

from hy3dgen.baking.shots import COUNTED_TRUST, FALLOFF, Shot, camera_constants
from hy3dgen.baking.texels import Surface, Texels

_TEXELS_PER_BAND = 1 << 20


def add_seen(
    texels: Texels,
    surface: Surface,
    shot: Shot,
    device: torch.device,
    colour_sum: np.ndarray,
    trust_sum: np.ndarray,
    count: np.ndarray,
) -> None:
    """Add what ``shot`` shows to the sums of a ``Painting``, computing a band of rows at a time on ``device``."""
    height, width = texels.face_ids.shape
    scene = _Scene(surface, shot, device)
    band = max(1, _TEXELS_PER_BAND // width)
    for first in range(0, height, band):
        rows = slice(first, min(height, first + band))
        ids = torch.from_numpy(texels.face_ids[rows]).to(device)
        inside = ids > 0
        weights = torch.from_numpy(texels.barycentrics[rows]).to(device)[inside]
        seen, colour = scene.look(ids[inside].long() - 1, weights)
        where = inside.cpu().numpy()
        trust = seen.cpu().numpy()
        colour_sum[rows][where] += (seen[:, None] * colour).cpu().numpy()
        trust_sum[rows][where] += trust
        count[rows][where] += trust >= np.float32(COUNTED_TRUST)


class _Scene:
    """Mesh and picture on the device."""

    def __init__(self, surface: Surface, shot: Shot, device: torch.device) -> None:
        def put(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(array)).to(device)

        self.faces = put(surface.faces).long()
        self.positions, self.normals = put(surface.positions), put(surface.normals)
        self.matrix = put(shot.view.matrix())
        self.constants = [float(value) for value in camera_constants(shot)]
        self.image, self.confidence, self.depth = put(shot.image), put(shot.confidence), put(shot.depth)

    def look(self, face: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points given by face (N,) and barycentrics (N, 3): (trust (N,), colour (N, 3) of 0 to 255)."""
        down, across, limit, weight, pixel = self._constants()
        corners = self.faces[face]
        position = (weights[..., None] * self.positions[corners]).sum(1)
        normal = (weights[..., None] * self.normals[corners]).sum(1)
        cosine = (normal @ self.matrix[2, :3]) / normal.norm(dim=1).clamp(min=1e-12)
        camera = position @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        height, width = self.depth.shape
        row = camera[:, 1] * down + 0.5 * (height - 1)
        column = camera[:, 0] * across + 0.5 * (width - 1)
        safe = cosine.clamp(min=limit)
        slope = (1 - safe * safe).clamp(min=0).sqrt() / safe
        bias = pixel * (1 + slope) + 0.001
        trusted, visible = torch.zeros_like(row), torch.zeros_like(row)
        colour = row.new_zeros(len(row), 3)
        for r, c, share in self._samples(row, column):
            trusted += share * self.confidence[r, c]
            visible += share * (self.depth[r, c] <= camera[:, 2] + bias)
            colour += share[:, None] * self.image[r, c].float()
        falloff = ((safe - limit) / (1 - limit)) ** FALLOFF
        return weight * trusted * visible * falloff * (cosine > limit), colour

    def _constants(self) -> tuple[float, float, float, float, float]:
        across, down, limit, weight, pixel = self.constants
        return down, across, limit, weight, pixel

    def _samples(
        self, row: torch.Tensor, column: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """The four pixels around each position and their bilinear shares."""
        height, width = self.depth.shape
        row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
        r, c = row.long().clamp(max=max(height - 2, 0)), column.long().clamp(max=max(width - 2, 0))
        fr, fc = row - r, column - c
        r1, c1 = (r + 1).clamp(max=height - 1), (c + 1).clamp(max=width - 1)
        return [
            (r, c, (1 - fr) * (1 - fc)),
            (r, c1, (1 - fr) * fc),
            (r1, c, fr * (1 - fc)),
            (r1, c1, fr * fc),
        ]
