"""The same projection as ``project`` with tensor operations, for devices other than the CPU.

The sums stay on the device from the first view to the last, so that per view only the picture travels.
"""

from __future__ import annotations

import numpy as np
import torch

from hy3dgen.baking.shots import COUNTED_TRUST, FALLOFF, Shot, camera_constants
from hy3dgen.baking.texels import Surface, Texels

_TEXELS_AT_ONCE = 1 << 20
"""Bounds the memory of intermediate values: about 200 bytes a texel."""


class Sums:
    """Running sums of a ``Painting`` for the texels that show something, on ``device``."""

    def __init__(self, texels: Texels, device: torch.device) -> None:
        ids = torch.from_numpy(np.ascontiguousarray(texels.face_ids).reshape(-1)).to(device)
        self._places = ids.nonzero()[:, 0]
        self._face = ids[self._places] - 1
        weights = torch.from_numpy(np.ascontiguousarray(texels.barycentrics).reshape(-1, 3))
        self._weights = weights.to(device)[self._places]
        self._shape = texels.face_ids.shape
        count = len(self._places)
        self._colour = torch.zeros(count, 3, device=device)
        self._trust = torch.zeros(count, device=device)
        self._count = torch.zeros(count, dtype=torch.uint8, device=device)

    def add(self, surface: Surface, shot: Shot) -> None:
        """Add what ``shot`` shows, some texels at a time."""
        scene = _Scene(surface, shot, self._face.device)
        for first in range(0, len(self._face), _TEXELS_AT_ONCE):
            part = slice(first, first + _TEXELS_AT_ONCE)
            trust, colour = scene.look(self._face[part].long(), self._weights[part])
            self._colour[part] += trust[:, None] * colour
            self._trust[part] += trust
            self._count[part] += trust >= COUNTED_TRUST

    def collect(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sums as host arrays: colour (H, W, 3), trust (H, W) float32 and count (H, W) uint8."""
        height, width = self._shape

        def spread(sums: torch.Tensor) -> np.ndarray:
            whole = sums.new_zeros(height * width, *sums.shape[1:])
            whole[self._places] = sums
            return whole.view(height, width, *sums.shape[1:]).cpu().numpy()

        return spread(self._colour), spread(self._trust), spread(self._count)


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
