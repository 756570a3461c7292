"""Held-out figures while training: the benchmark's shapes and scores, the training networks.

The shapes, pictures, preprocessing and scores are those of ``benchmarks.quality``; only the decoder differs: here the
whole lattice is decoded, on the device. Published figures come from the benchmark on the exported folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import scoring
from benchmarks.quality import CELLS, PICTURE_PX, field_scores
from benchmarks.shapes import CATEGORIES, SHAPES_PER_CATEGORY, shape
from hy3dgen.shapegen import sampling
from hy3dgen.shapegen.models.conditioner import crop_centre, resize_shorter_side
from hy3dgen.shapegen.preprocessors import ImageProcessorV2
from hy3dgen.shapegen.schedulers import FlowMatchEulerDiscreteScheduler
from training.networks import Networks

Record = dict[str, Any]
POINTS_PER_PIECE = 2**15


@dataclass(frozen=True)
class HeldOut:
    """M shapes of the fixed set, on the CPU.

    pictures: (M, 3, S, S) in [0, 1] on white; inside: (M, n, n, n) bool on the lattice of ``scoring``; surface:
    (M, N, 6) points and normals; categories: M names
    """

    pictures: Tensor
    inside: np.ndarray
    surface: np.ndarray
    categories: tuple[str, ...]
    cells: int

    def __len__(self) -> int:
        return len(self.categories)


def held_out(
    image_size: int, *, every: int = 4, cells: int = CELLS, categories: Iterable[str] = tuple(CATEGORIES)
) -> HeldOut:
    """Every ``every``-th of the SHAPES_PER_CATEGORY fixed shapes of each category, prepared once.

    The first call on a machine compiles the benchmark's loops, which takes about a minute.
    """
    names = [(name, index) for name in categories for index in range(0, SHAPES_PER_CATEGORY, every)]
    process, lattice = ImageProcessorV2(size=PICTURE_PX), scoring.lattice(cells)
    pictures, inside, surface = [], [], []
    for name, index in names:
        solid = shape(name, index)
        seen = (process(solid.render(PICTURE_PX))["image"] + 1) / 2
        pictures.append(crop_centre(resize_shorter_side(seen, image_size), image_size))
        inside.append(solid.field(lattice) > 0)
        surface.append(solid.surface(scoring.SURFACE_POINTS))
    kinds = tuple(name for name, _ in names)
    return HeldOut(torch.cat(pictures), np.stack(inside), np.stack(surface).astype(np.float32), kinds, cells)


@torch.inference_mode()
def reconstructed(networks: Networks, data: HeldOut, *, batch_size: int = 16) -> Record:
    """IoU and chamfer of the VAE alone: surface points → latents → field."""
    device = next(networks.parameters()).device
    fields = []
    for part in torch.from_numpy(data.surface[:, : networks.num_points]).split(batch_size):
        fields.append(decoded(networks, networks.encode(part.to(device)).mode(), data.cells))
    return summary(np.concatenate(fields), data)


@torch.inference_mode()
def generated(
    networks: Networks, data: HeldOut, *, guidance: float = 3.0, steps: int = 20, seed: int = 0, batch_size: int = 32
) -> Record:
    """IoU and chamfer from a picture to a shape, with classifier-free guidance."""
    device = next(networks.parameters()).device
    generator = torch.Generator("cpu").manual_seed(seed)
    fields = []
    for pictures in data.pictures.split(batch_size):
        noise = torch.randn(len(pictures), *networks.vae.latent_shape, generator=generator).to(device)
        latents = sampled(networks, pictures.to(device), noise, guidance, steps) / networks.scale
        fields += [decoded(networks, part, data.cells) for part in latents.split(8)]
    return summary(np.concatenate(fields), data)


def sampled(networks: Networks, pictures: Tensor, noise: Tensor, guidance: float, steps: int) -> Tensor:
    """Scaled latents (B, L, C) of pictures (B, 3, S, S), from noise of the latents' shape."""
    tokens = networks.look(pictures)
    scheduler = FlowMatchEulerDiscreteScheduler()
    # the same times as the published pipeline: sigmas given, not derived
    sampling.retrieve_timesteps(scheduler, device=noise.device, sigmas=np.linspace(0, 1, steps))

    def network(latents: Tensor, time: Tensor, contexts: Any) -> Tensor:
        return networks.model(latents, time, contexts)

    if guidance == 1:
        velocity = sampling.unguided(network, {"main": tokens})
    else:
        velocity = sampling.guided(network, {"main": torch.cat([tokens, torch.zeros_like(tokens)])}, guidance)
    return sampling.denoise(velocity, scheduler, noise)


def decoded(networks: Networks, latents: Tensor, cells: int) -> np.ndarray:
    """The field of unscaled latents on the whole lattice, (B, n, n, n) float32."""
    points = torch.from_numpy(scoring.lattice(cells)).to(latents.device).view(1, -1, 3)
    features = networks.vae(latents)
    decoder = networks.vae.geo_decoder
    prepared = decoder.prepare(features)
    piece = max(POINTS_PER_PIECE // len(latents), 1)
    values = [decoder.query(part.expand(len(latents), -1, -1), prepared)[..., 0] for part in points.split(piece, 1)]
    return torch.cat(values, 1).float().cpu().numpy().reshape(-1, cells + 1, cells + 1, cells + 1)


def summary(fields: np.ndarray, data: HeldOut) -> Record:
    """Means, the median, and means by category of the benchmark's scores."""
    records = [
        field_scores(values, inside, surface[:, :3])
        for values, inside, surface in zip(fields, data.inside, data.surface, strict=True)
    ]
    by_category: dict[str, list[Record]] = {}
    for name, record in zip(data.categories, records, strict=True):
        by_category.setdefault(name, []).append(record)
    return {
        **_means(records),
        "iou_median": float(np.median([record["iou"] for record in records])),
        "count": len(records),
        "categories": {name: _means(items) for name, items in by_category.items()},
    }


def _means(records: list[Record]) -> Record:
    return {key: float(np.mean([record[key] for record in records])) for key in ("iou", "chamfer")}
