"""How good painted views are: PSNR against the true albedo where the picture shows the surface and where it does not.

View pixels, fast enough to look at during training. Published figures are of texels, through the whole pipeline
(``benchmarks.quality --only texture``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import scoring
from benchmarks.shapes import CATEGORIES
from training.paint.batches import Prepared, on_white, prepared
from training.paint.networks import PaintNetworks
from training.paint.phases import predicted
from training.paint.pool import Batch

LEAST_PIXELS = 16  # of a scene, for a figure about them


def held_out_names(per_category: int) -> list[tuple[str, int]]:
    return [(name, index) for index in range(per_category) for name in CATEGORIES]


@torch.inference_mode()
def painted(networks: PaintNetworks, item: Prepared, *, from_noise: bool = False, seed: int = 0) -> Tensor:
    """(B, 6, 3, S, S) in [0, 1], as the pipeline paints them."""
    generator = torch.Generator(item.target.device).manual_seed(seed)
    start = networks.encode(item.guess.views, generator)
    if from_noise:
        start = torch.randn(start.shape, generator=generator, device=start.device)
    return networks.decode(predicted(networks, item, start, generator)).clamp(0, 1)


@torch.inference_mode()
def scored(networks: PaintNetworks, data: Batch, *, batch_size: int = 16) -> dict[str, Any]:
    """Means over scenes of the PSNR in dB: 'unseen' and 'seen' pixels of the painted views, the first guess ('guess_'),
    the same started from noise ('noise_'), the mean colour of the picture ('flat_'), and the autoencoder alone.
    'level_': of the painted views if each scene's mean colour were right, which the picture's unknown light decides."""

    def made(item: Prepared, generator: torch.Generator) -> dict[str, Tensor]:
        return {
            "": painted(networks, item),
            "noise_": painted(networks, item, from_noise=True),
            "guess_": item.guess.views,
            "flat_": _flat(item),
            "coded_": _coded(networks, item, generator),
        }

    return _compared(data, made, batch_size)


@torch.inference_mode()
def coded(networks: PaintNetworks, data: Batch, *, batch_size: int = 16) -> dict[str, Any]:
    """'coded_unseen' and 'coded_seen' of ``scored`` alone. After phase one it is what the autoencoder can do; in phase
    two the decoder leaves it for what the UNet makes, so that true latents are no longer what it knows best."""
    return _compared(data, lambda item, generator: {"coded_": _coded(networks, item, generator)}, batch_size)


def _coded(networks: PaintNetworks, item: Prepared, generator: torch.Generator) -> Tensor:
    return networks.decode(networks.encode(item.target, generator)).clamp(0, 1)


def _compared(
    data: Batch, make: Callable[[Prepared, torch.Generator], dict[str, Tensor]], batch_size: int
) -> dict[str, Any]:
    rows: dict[str, list[float]] = {}
    generator = torch.Generator(data.picture.device).manual_seed(0)
    for first in range(0, len(data), batch_size):
        item = prepared(data[first : first + batch_size])
        truth, covered, unseen = item.batch.albedo, item.guess.covered, item.unseen
        for name, views in make(item, generator).items():
            for where, mask in (("unseen", unseen), ("seen", covered & ~unseen)):
                for error, chosen in zip(views - truth, mask, strict=True):
                    if int(chosen.sum()) < LEAST_PIXELS:
                        continue
                    values = error.transpose(0, 1)[:, chosen]  # (3, N)
                    total, offset = float(values.square().mean()), float(values.mean(1).square().mean())
                    rows.setdefault(f"{name}{where}_db", []).append(scoring.decibels(total))
                    if not name:
                        rows.setdefault(f"level_{where}_db", []).append(scoring.decibels(max(total - offset, 0.0)))
    return {name: sum(values) / len(values) for name, values in rows.items()} | {"count": len(data)}


def _flat(item: Prepared) -> Tensor:
    alpha = item.batch.picture[:, 3:]
    mean = (item.batch.picture[:, :3] * alpha).sum((2, 3)) / alpha.sum((2, 3)).clamp_min(1)
    return mean[:, None, :, None, None].expand_as(item.target)


@torch.inference_mode()
def sheet(networks: PaintNetworks, data: Batch) -> Tensor:
    """(H, W, 3) uint8: for each scene the picture and six views; rows truth, guess, painted, painted from noise."""
    item = prepared(data)
    white = on_white(item.batch.picture)
    rows = (item.batch.albedo, item.guess.views, painted(networks, item), painted(networks, item, from_noise=True))
    strips = []
    for index in range(len(data)):
        mask = item.guess.covered[index][:, None]
        for views in rows:
            tiles = [white[index], *torch.where(mask, views[index], 1.0)]
            strips.append(torch.cat(tiles, 2))
    return (torch.cat(strips, 1).permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu()
