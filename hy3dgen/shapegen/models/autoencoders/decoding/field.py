"""Asking the geometry decoder for values at grid points, slice by slice, with the answers kept on the host.

On the device there are only one slice of coordinates, and indices and answers of about HELD_POINTS points, whatever
the grid's size. Coordinates are made there from flat indices, so nothing of the grid's size is ever built or sent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hy3dgen.runtime.stages import steps
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import Lattice

# Indices (8 MB) are sent and answers (4 MB) fetched for so many points at a time: each copy waits for all kernels.
HELD_POINTS = 1 << 20


class Field:
    """The values of a batch of shapes at any point.

    geo_decoder: has ``prepare(latents)`` and ``query(points, prepared)``, or is only callable as
    ``geo_decoder(queries=, latents=)``; latents: (B, N, width), the features that ShapeVAE.forward returns;
    tile_points: for ``query``, None for its own choice.
    """

    def __init__(self, geo_decoder: Any, latents: Tensor, tile_points: int | None = None) -> None:
        self.geo_decoder, self.latents = geo_decoder, latents
        # Decoders of other packages need not know tiles.
        self._tiles = {} if tile_points is None else {"tile_points": tile_points}
        self.prepared = geo_decoder.prepare(latents) if hasattr(geo_decoder, "prepare") else None

    @property
    def batch(self) -> int:
        return self.latents.shape[0]

    @property
    def device(self) -> torch.device:
        return self.latents.device

    @property
    def dtype(self) -> torch.dtype:
        return self.latents.dtype

    def __call__(self, points: Tensor) -> Tensor:
        """points: (B, P, 3); with one shape, any number of batch items is answered for that shape.

        Returns (B, P) in the network's dtype.
        """
        count = points.shape[0]
        widen = count != self.batch
        if self.prepared is not None:
            prepared = self.prepared.expand(count) if widen else self.prepared
            return self.geo_decoder.query(points, prepared, **self._tiles)[..., 0]
        latents = self.latents.expand(count, -1, -1) if widen else self.latents
        return self.geo_decoder(queries=points, latents=latents)[..., 0]


@torch.inference_mode()
def values_at(field: Field, lattice: Lattice, flat: Tensor | None, num_chunks: int) -> Tensor:
    """(B, n) float32 on the host: the field at n grid points.

    flat: (n,) int64 flat indices on the host, or None for every point in order; num_chunks: points per network call.
    Coordinates are rounded to the field's dtype before they are embedded, as the published decoders do.
    """
    count = lattice.num_points if flat is None else len(flat)
    answers = torch.empty(field.batch, count, dtype=torch.float32)
    axes = torch.from_numpy(lattice.axes).to(field.device)
    held: list[Tensor] = []
    sent = torch.empty(0, dtype=torch.int64)
    held_from, held_count, sent_from = 0, 0, 0
    for start in steps(range(0, count, num_chunks), unit="chunk"):
        stop = min(start + num_chunks, count)
        if flat is None:
            indices = torch.arange(start, stop, device=field.device)
        else:
            if stop > sent_from + len(sent):
                sent, sent_from = flat[start : start + max(HELD_POINTS, num_chunks)].to(field.device), start
            indices = sent[start - sent_from : stop - sent_from]
        points = lattice.points(indices, axes).to(field.dtype)
        held.append(field(points[None].expand(field.batch, -1, -1)))
        held_count += stop - start
        if held_count >= HELD_POINTS or stop == count:
            answers[:, held_from:stop] = torch.cat(held, dim=1).to(device="cpu", dtype=torch.float32)
            held, held_from, held_count = [], stop, 0
    return answers
