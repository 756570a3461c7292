"""An endless, repeatable stream of normalised training shapes that knows where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.generator import around, pictures, surface, targets
from training.generator.draw import BLOCK, Drawn
from training.generator.kernels import kernels_for
from training.generator.solids import Solids


@dataclass(frozen=True)
class Lot:
    """N normalised shapes with how they are photographed; tensors on one device.

    halves: (N, 3) half sizes of their boxes; categories: (N,); views, lights, materials: see ``draw.Drawn``
    """

    solids: Solids
    halves: Tensor
    categories: Tensor
    views: Tensor
    lights: Tensor
    materials: Tensor

    def __len__(self) -> int:
        return len(self.solids)

    def __getitem__(self, index: slice | Tensor) -> Lot:
        rest = (getattr(self, name)[index] for name in ("halves", "categories", "views", "lights", "materials"))
        return Lot(self.solids[index], *rest)

    def points(self, count: int, generator: torch.Generator) -> Tensor:
        """(N, count, 6) surface points and normals."""
        return surface.sample(self.solids, -self.halves, self.halves, count, generator)[0]

    def photograph(
        self, points: Tensor, size_px: int, generator: torch.Generator, looks: pictures.Looks = pictures.RECIPE
    ) -> tuple[Tensor, Tensor]:
        """Pictures and side targets, see ``pictures.render``; the window is fitted to ``points`` and jittered."""
        scene, effects = self._scene(points, generator, looks)
        return pictures.render(self.solids, scene, size_px, effects=effects, halves=self.halves)

    def photograph_around(
        self, points: Tensor, size_px: int, generator: torch.Generator, looks: pictures.Looks = pictures.RECIPE
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and pictures of the other sides, see ``around.other_sides``."""
        scene, effects = self._scene(points, generator, looks)
        seen, side = pictures.render(self.solids, scene, size_px, effects=effects, halves=self.halves)
        others = around.other_sides(self.solids, scene, effects, points, self.halves, size_px, generator)
        return seen, side, others

    def _scene(
        self, points: Tensor, generator: torch.Generator, looks: pictures.Looks
    ) -> tuple[pictures.Scene, Tensor | None]:
        """Camera, light and materials, and the effects of the light; None: no effects."""
        cameras = pictures.jittered(pictures.fit_windows(points, self.views), generator)
        scene = pictures.scene_of(cameras, self.lights, self.materials)
        return (scene, None) if looks == pictures.RECIPE else pictures.varied(scene, looks, generator)


def join(lots: list[Lot]) -> Lot:
    """One lot after the other, as one."""
    if len(lots) == 1:
        return lots[0]
    most = max(lot.solids.rows.shape[1] for lot in lots)
    rows = [functional.pad(lot.solids.rows, (0, 0, 0, most - lot.solids.rows.shape[1])) for lot in lots]
    counts, poses = (torch.cat([getattr(lot.solids, name) for lot in lots]) for name in ("counts", "poses"))
    solids = replace(lots[0].solids, rows=torch.cat(rows), counts=counts, poses=poses)
    names = ("halves", "categories", "views", "lights", "materials")
    return Lot(solids, *(torch.cat([getattr(lot, name) for lot in lots]) for name in names))


def block_generator(device: torch.device, *words: int) -> torch.Generator:
    """A generator whose numbers depend on all of the words."""
    mixed = 0x9E3779B97F4A7C15
    for word in words:
        mixed = ((mixed ^ (word + 0x7F4A7C15)) * 0xBF58476D1CE4E5B9) % 2**64
        mixed ^= mixed >> 31
    return torch.Generator(device).manual_seed(mixed % 2**63)


def normalised_lot(drawn: Drawn, device: torch.device, generator: torch.Generator, *, engine: str = "auto") -> Lot:
    """Drawn shapes on the device, centred and scaled, without those that have too little surface.

    engine: what evaluates them, see ``kernels.kernels_for``
    """
    rows, counts, poses, views, lights, materials, categories = (
        torch.from_numpy(getattr(drawn, name)).to(device)
        for name in ("rows", "counts", "poses", "views", "lights", "materials", "categories")
    )
    solids, halves, good = surface.normalise(Solids(rows, counts, poses, kernels_for(device, engine))[:], generator)
    return Lot(solids, halves, categories, views, lights, materials)[good]


class ShapeStream:
    """Lots of the asked size, one after the other, a function of the seed; the place in it can be kept.

    source: every ``stride``-th block of this seed from number ``block`` on (``draw.blocks``); offset: shapes of the
    first block that were already used
    """

    def __init__(
        self,
        source: Iterator[Drawn],
        device: torch.device,
        seed: int,
        *,
        block: int = 0,
        offset: int = 0,
        engine: str = "auto",
        stride: int = 1,
    ) -> None:
        self._source, self._device, self._seed, self._engine = source, device, seed, engine
        self._block, self._offset, self._stride = block, offset, stride
        self._lot: Lot | None = None

    def place(self) -> dict[str, int]:
        """Arguments ``block`` and ``offset`` of a stream that goes on from here."""
        return {"block": self._block, "offset": self._offset}

    def take(self, count: int) -> Lot:
        """The next ``count`` shapes."""
        parts: list[Lot] = []
        missing = count
        while missing:
            if self._lot is None:
                generator = block_generator(self._device, self._seed, self._block)
                self._lot = normalised_lot(next(self._source), self._device, generator, engine=self._engine)
            part = self._lot[self._offset : self._offset + missing]
            self._offset += len(part)
            missing -= len(part)
            if len(part):
                parts.append(part)
            if self._offset >= len(self._lot):
                self._lot, self._block, self._offset = None, self._block + self._stride, 0
        return join(parts)


@dataclass(frozen=True)
class FieldBatch:
    """What one step of the VAE sees: surface (B, N, 6), query points (B, M, 3), clamped field there (B, M)."""

    surface: Tensor
    points: Tensor
    values: Tensor

    def split(self, size: int) -> list[FieldBatch]:
        """Batches of ``size`` shapes."""
        parts = (values.split(size) for values in (self.surface, self.points, self.values))
        return [FieldBatch(*item) for item in zip(*parts, strict=True)]


def field_batch(lot: Lot, num_points: int, num_queries: int, generator: torch.Generator) -> FieldBatch:
    """Points and targets of a lot; half of the shapes mirrored."""
    points = lot.points(num_points, generator)
    asked = targets.queries(points, num_queries, generator)
    values = targets.clamped_field(lot.solids, asked)
    return FieldBatch(*targets.mirrored(points, asked, generator), values)


__all__ = [
    "BLOCK", "FieldBatch", "Lot", "ShapeStream", "block_generator", "field_batch", "join", "normalised_lot",
]  # fmt: skip
