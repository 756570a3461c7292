"""Held-out figures while training: the benchmark's shapes and scores, the training networks.

The shapes, pictures, preprocessing and scores are those of ``benchmarks.quality``; only the decoder differs: here the
whole lattice is decoded, on the device. Published figures come from the benchmark on the exported folder.

Pictures can be prepared ahead (``write_pictures``), for machines without OpenCV; the rest is made anew everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import scoring
from benchmarks.shapes import CATEGORIES, MORE, SHAPES_PER_CATEGORY, Shape, shape
from benchmarks.shapes.look import SIDES
from hy3dgen.errors import WeightsDamagedError
from hy3dgen.runtime.files import write_atomic
from training.generator.draw import deaf_to_signals
from training.networks import Networks
from training.ranks import Ranks

Record = dict[str, Any]
POINTS_PER_PIECE = 2**17
IMAGE_PX = 168  # of the shipped image encoder


@dataclass(frozen=True)
class HeldOut:
    """M shapes of the fixed set, on the CPU.

    pictures: (M, 3, S, S) in [0, 1] on white, or (M, V, 3, S, S) of V sides
    inside: (M, n, n, n) bool on the lattice of ``scoring``; surface: (M, N, 6) points and normals; categories: M names
    around, others: numbers of the K shapes that are seen from all sides, and (K, V - 1, 3, S, S) pictures of their
    other sides; None when there are none
    """

    pictures: Tensor
    inside: np.ndarray
    surface: np.ndarray
    categories: tuple[str, ...]
    cells: int
    around: tuple[int, ...] = ()
    others: Tensor | None = None

    def __len__(self) -> int:
        return len(self.categories)

    def from_all_sides(self) -> HeldOut:
        """The shapes that are seen from all sides, with all their pictures."""
        chosen = list(self.around)
        fronts = self.pictures[chosen][:, None]
        return HeldOut(
            fronts if self.others is None else torch.cat([fronts, self.others], 1),
            self.inside[chosen],
            self.surface[chosen],
            tuple(self.categories[i] for i in chosen),
            self.cells,
        )


def held_out(
    image_size: int,
    *,
    every: int = 4,
    cells: int = scoring.CELLS,
    categories: Iterable[str] = tuple(CATEGORIES),
    pictures: Path | None = None,
    views: int = 1,
    rank: int = 0,
    world: int = 1,
) -> HeldOut:
    """Every ``every``-th of the SHAPES_PER_CATEGORY fixed shapes of each category, prepared once; of these every
    ``world``-th from number ``rank`` on.

    pictures: what ``write_pictures`` wrote; views: more than 1 for ``others``, which ``seen_around`` shapes have. The
    first call on a machine compiles the benchmark's loops, about a minute.
    """
    names = [(name, index) for name in categories for index in range(0, SHAPES_PER_CATEGORY, every)]
    names = names[rank::world]
    stored = read_pictures(pictures, image_size) if pictures is not None else {}
    lattice = scoring.lattice(cells)
    seen, others, inside, surface = [], [], [], []
    for name, index in names:
        solid = shape(name, index)
        sides = range(views if seen_around(index) else 1)
        front, *rest = [_picture(solid, side, image_size, stored) for side in sides]
        seen.append(front)
        others += [torch.cat(rest)] if rest else []
        inside.append(solid.field(lattice) > 0)
        surface.append(solid.surface(scoring.SURFACE_POINTS))
    kinds = tuple(name for name, _ in names)
    around = tuple(number for number, (_, index) in enumerate(names) if views > 1 and seen_around(index))
    more = [torch.stack(others)] if others else []
    return HeldOut(torch.cat(seen), np.stack(inside), np.stack(surface).astype(np.float32), kinds, cells, around, *more)


def _picture(solid: Shape, side: int, image_size: int, stored: dict[str, Tensor]) -> Tensor:
    """(1, 3, S, S) of one side, stored or made."""
    key = _key(solid.name, side)
    return stored[key] if key in stored else preprocessed(solid.turned(side).render(scoring.PICTURE_PX), image_size)


def _key(name: str, side: int) -> str:
    """What a picture is called among stored ones: 'mug-0' from the front, 'mug-0-left'."""
    return f"{name}-{SIDES[side]}" if side else name


def seen_around(index: int) -> bool:
    """Whether a shape's other sides are held out, too: half of the set, which keeps evaluation and stored pictures
    small; spread so that two processes that share the set have as many each."""
    return index % 4 < 2


def preprocessed(picture: Any, image_size: int) -> Tensor:
    """(1, 3, S, S) in [0, 1] on white of a PIL cut-out, by the public pipeline's steps."""
    from hy3dgen.shapegen.models.conditioner import crop_centre, resize_shorter_side
    from hy3dgen.shapegen.preprocessors import ImageProcessorV2

    seen = (ImageProcessorV2(size=scoring.PICTURE_PX)(picture)["image"] + 1) / 2
    return crop_centre(resize_shorter_side(seen, image_size), image_size)


def write_pictures(path: Path, image_size: int, every: int = 1, views: int = 1) -> None:
    """Store the preprocessed pictures of the held-out shapes, 8 bits a channel, as one archive.

    views: more than 1 for the other sides of ``seen_around`` shapes
    """
    import io
    import zipfile

    from PIL import Image

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in CATEGORIES:
            for index in range(0, SHAPES_PER_CATEGORY, every):
                for side in range(views if seen_around(index) else 1):
                    seen = preprocessed(shape(name, index).turned(side).render(scoring.PICTURE_PX), image_size)
                    pixels = (seen[0].permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
                    data = io.BytesIO()
                    Image.fromarray(pixels.numpy()).save(data, "WEBP", lossless=True, quality=100, method=6)
                    file.writestr(f"{_key(f'{name}-{index}', side)}.webp", data.getvalue())
    write_atomic(path, archive.getvalue())


def read_pictures(path: Path, image_size: int) -> dict[str, Tensor]:
    """What ``write_pictures`` wrote: (1, 3, S, S) by the shapes' names. Raises WeightsDamagedError for another size."""
    import zipfile

    from PIL import Image

    found = {}
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            with file.open(name) as data, Image.open(data) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            if pixels.shape[0] != image_size:
                raise WeightsDamagedError(f"{path} has pictures of {pixels.shape[0]} px, {image_size} are needed")
            found[Path(name).stem] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    return found


class Ahead:
    """This rank's part of the held-out shapes, which another process prepares while this one goes on; ``result`` waits
    for them. chosen: categories and views, as ``held_out`` takes them."""

    def __init__(self, image_size: int, every: int, pictures: Path | None, ranks: Ranks, **chosen: Any) -> None:
        # spawned, not forked: this process has threads and perhaps a device
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=deaf_to_signals)
        part = {"every": every, "pictures": pictures, "rank": ranks.rank, "world": ranks.world, **chosen}
        self._made: Future[HeldOut] = self._pool.submit(held_out, image_size, **part)
        self._found: HeldOut | None = None

    def result(self) -> HeldOut:
        """Raises what the preparation raised."""
        if self._found is None:
            self._found = self._made.result()
            self.close()
        return self._found

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@torch.inference_mode()
def reconstructed(networks: Networks, data: HeldOut, *, batch_size: int = 16, ranks: Ranks | None = None) -> Record:
    """IoU and chamfer of the VAE alone: surface points → latents → field."""
    ranks = ranks or Ranks()
    device = next(networks.parameters()).device
    fields = []
    for part in torch.from_numpy(data.surface[:, : networks.num_points]).split(batch_size):
        fields.append(decoded(networks, networks.encode(part.to(device)).mode(), data.cells))
    return summary(np.concatenate(fields), data, ranks)


@torch.inference_mode()
def generated(
    networks: Networks,
    data: HeldOut,
    *,
    guidance: float = 3.0,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 32,
    ranks: Ranks | None = None,
) -> Record:
    """IoU and chamfer from one or more pictures to a shape, with classifier-free guidance. ranks: processes that have
    a part of the shapes each; all get the figures of all."""
    ranks = ranks or Ranks()
    device = next(networks.parameters()).device
    generator = torch.Generator("cpu").manual_seed(seed + 1000 * ranks.rank)
    fields = []
    for pictures in data.pictures.split(batch_size) if len(data) else ():
        noise = torch.randn(len(pictures), *networks.vae.latent_shape, generator=generator).to(device)
        latents = sampled(networks, pictures.to(device), noise, guidance, steps) / networks.scale
        fields += [decoded(networks, part, data.cells) for part in latents.split(8)]
    return summary(np.concatenate(fields) if fields else data.inside, data, ranks)


def sampled(networks: Networks, pictures: Tensor, noise: Tensor, guidance: float, steps: int) -> Tensor:
    """Scaled latents (B, L, C) of pictures (B, 3, S, S), or (B, V, 3, S, S) of sides, from noise of the latents'
    shape."""
    tokens = networks.look(pictures) if pictures.ndim == 4 else networks.look_around(pictures)
    if guidance != 1:
        tokens = torch.cat([tokens, torch.zeros_like(tokens)])
    times = torch.linspace(0, 1, steps, device=noise.device)
    latents = noise
    for now, then in pairwise(times):  # the public pipeline's times and steps
        copies = latents if guidance == 1 else torch.cat([latents, latents])
        velocity = networks.model(copies, now.expand(len(copies)), {"main": tokens})
        if guidance != 1:
            seen, unseen = velocity.chunk(2)
            velocity = unseen + guidance * (seen - unseen)
        latents = latents + (then - now) * velocity
    return latents


def decoded(networks: Networks, latents: Tensor, cells: int) -> np.ndarray:
    """The field of unscaled latents on the whole lattice, (B, n, n, n) float32."""
    points = torch.from_numpy(scoring.lattice(cells)).to(latents.device).view(1, -1, 3)
    features = networks.vae(latents)
    decoder = networks.vae.geo_decoder
    prepared = decoder.prepare(features)
    piece = max(POINTS_PER_PIECE // len(latents), 1)
    values = [decoder.query(part.expand(len(latents), -1, -1), prepared)[..., 0] for part in points.split(piece, 1)]
    return torch.cat(values, 1).float().cpu().numpy().reshape(-1, cells + 1, cells + 1, cells + 1)


def summary(fields: np.ndarray, data: HeldOut, ranks: Ranks | None = None) -> Record:
    """Means, the median, and means by category of the benchmark's scores; over the parts of all ``ranks``."""
    with ThreadPoolExecutor(8) as pool:
        mine = list(pool.map(scoring.field_scores, fields, data.inside, data.surface[..., :3]))
    parts = (ranks or Ranks()).gathered(list(zip(data.categories, mine, strict=True)))
    records = [record for part in parts for _, record in part]
    by_category: dict[str, list[Record]] = {name: [] for name in CATEGORIES | MORE}
    for name, record in (item for part in parts for item in part):
        by_category[name].append(record)
    return {
        **_means(records),
        "iou_median": float(np.median([record["iou"] for record in records])),
        "count": len(records),
        "categories": {name: _means(items) for name, items in by_category.items() if items},
    }


def _means(records: list[Record]) -> Record:
    return {key: float(np.mean([record[key] for record in records])) for key in ("iou", "chamfer")}
