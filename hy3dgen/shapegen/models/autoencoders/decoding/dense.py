"""Every point of the grid."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hy3dgen.shapegen.models.autoencoders.decoding.field import Field, values_at
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import (
    Bounds,
    Lattice,
    box_of,
    checked_chunk,
    checked_resolution,
    checked_tile,
)


class VanillaVolumeDecoder:
    """Evaluates all (R + 1)³ points, in slices."""

    def __call__(
        self,
        latents: Tensor,
        geo_decoder: Any,
        bounds: Bounds = 1.01,
        num_chunks: int = 10000,
        octree_resolution: int | None = None,
        *,
        tile_points: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """latents: (B, N, width) features. Returns (B, g, g, g) float32 on the host, g = octree_resolution + 1.

        bounds: b for [-b, b]³, or six numbers; num_chunks: points per network call; tile_points: how many of them the
        network takes at once, None for its own choice. Other keywords of ``latents2mesh`` are taken and have no effect
        here. Raises UsageError for an unusable value.
        """
        lattice = Lattice(*box_of(bounds), checked_resolution(octree_resolution))
        field = Field(geo_decoder, latents, checked_tile(tile_points))
        values = values_at(field, lattice, None, checked_chunk(num_chunks))
        return values.view(-1, lattice.size, lattice.size, lattice.size)
