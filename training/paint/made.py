"""Scenes made on the device itself by the generator's kernels: thousands a second, so that hardly any is used twice.

Worker processes only draw what shapes are made of, as for the shape model. The maps and pictures are those of ``trace``
(equality is tested); shapes come from another stream, since the kernels draw surface points of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from training.generator import pictures
from training.generator.draw import blocks
from training.generator.kernels import kernels_for
from training.generator.orthographic import frame_rows
from training.generator.stream import Lot, ShapeStream, block_generator
from training.paint.pool import Pool, workers_for
from training.paint.recentre import recentred
from training.paint.trace import POINTS, VIEW_PX, VIEWS, picture_px

TRAINING = 7_411_020  # mixed into the generator that draws surface points; the block numbers are the stream's


def made_scenes(lot: Lot, points: Tensor, size_px: int = VIEW_PX) -> Tensor:
    """(n, CHANNELS, S, S) uint8 on the lot's device, n at most len(lot): those whose picture shows enough.

    points: (B, N, 3) of the surfaces, which maps and picture frame. The lot's shapes need kernels.
    """
    solids, views = lot.solids, torch.from_numpy(VIEWS).to(points)
    assert solids.kernels is not None
    maps = solids.kernels.maps(solids.parts, lot.materials, frame_rows(points), views, size_px)
    scene = pictures.scene_of(pictures.fit_windows(points, lot.views), lot.lights, lot.materials)
    seen = pictures.photograph(solids, scene, picture_px(size_px), halves=lot.halves)
    small, good = recentred(seen, size_px)
    return torch.cat([maps.flatten(1, 2), small], 1)[good]


class MadePool(Pool):
    """A pool that makes ``at_once`` new scenes whenever those in it were drawn ``reuse`` times on average. The least
    used are drawn first, so no scene is drawn more than ``reuse`` times, rounded up."""

    def __init__(
        self,
        make: Callable[[int], Tensor],
        place: Callable[[], dict[str, int]],
        device: torch.device,
        *,
        capacity: int,
        reuse: float = 2.0,
        at_once: int = 256,
        size_px: int = VIEW_PX,
    ) -> None:
        super().__init__(device, 0, capacity=capacity, size_px=size_px)
        self._make, self._place, self._reuse = make, place, reuse
        self.at_once, self._due = min(at_once, capacity), 0.0

    def place(self) -> dict[str, int]:
        """The block to go on from; what was left of the one under way is given up."""
        place = self._place()
        return {"block": place["block"] + (place["offset"] > 0), "offset": 0}

    def fill_here(self, count: int) -> None:
        """Make scenes until there are so many."""
        while self.traced < count:
            self.add(self._make(min(self.at_once, count - self.traced)))

    def wait_for(self, count: int, timeout_s: float = 600.0) -> None:
        """Nothing to wait for: they are made now."""
        self.fill_here(count)

    def _renew(self, count: int) -> None:
        self._due += count / self._reuse
        while self._due >= self.at_once:
            before = self.traced
            self.fill_here(before + self.at_once)
            self._due -= self.traced - before

    def _chosen(self, count: int, generator: torch.Generator) -> Tensor:
        uses = self._uses[: len(self)].float()
        chance = torch.rand(len(self), generator=generator, device=generator.device).to(uses.device)
        most = min(count, len(self))
        return (uses + chance).topk(most, largest=False).indices.repeat(-(-count // most))[:count]


@contextmanager
def opened_here(
    device: torch.device,
    seed: int,
    *,
    first: int = 0,
    capacity: int,
    workers: int,
    block: int = 256,
    reuse: float = 2.0,
    at_once: int = 256,
    size_px: int = VIEW_PX,
) -> Iterator[tuple[Pool, ProcessPoolExecutor | None]]:
    """A ``MadePool`` on shapes that ``workers`` processes draw ahead from block number ``first`` on, and an executor
    for other work, held-out shapes; with 0 workers all is drawn here and there is no executor."""
    with blocks(seed, first, size=block, workers=workers) as source:
        stream = ShapeStream(source, device, seed, block=first)
        generator = block_generator(device, TRAINING, seed, first)

        def make(count: int) -> Tensor:
            lot = stream.take(count)
            return made_scenes(lot, lot.points(POINTS, generator)[..., :3], size_px)

        pool = MadePool(make, stream.place, device, capacity=capacity, reuse=reuse, at_once=at_once, size_px=size_px)
        if workers == 0:
            yield pool, None
            return
        with workers_for(max(workers // 2, 1)) as executor:
            yield pool, executor


def can_make(device: torch.device) -> bool:
    """Whether the device has the kernels."""
    return kernels_for(device) is not None
