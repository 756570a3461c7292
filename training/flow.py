"""Phase two: image encoder and denoiser learn together, from pictures and latents of shapes kept in a pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from training import sight
from training.coupling import coupled, principal_axes
from training.generator import augment, pictures
from training.generator.stream import ShapeStream
from training.log import JsonLines
from training.loop import generator_state, restore_generator
from training.networks import CELLS_PER_PATCH, PATCH_PX, Networks


@dataclass(frozen=True)
class FlowOptions:
    """batch_size: samples a step; pool: shapes that are kept; reuse: how often each is used before it is replaced, on
    average; unconditional: share of samples without a picture; side: weight of the side loss, 0 leaves it out;
    coupling: pair noise and data (see ``coupling``); looks, camera: kinds of pictures; ahead: batches of new shapes
    that are made at once; compiled: fuse what a camera does to pictures; head_first: steps in which the side head
    learns alone, for a new head beside trained networks"""

    batch_size: int = 256
    pool: int = 24576
    reuse: float = 3.0
    unconditional: float = 0.1
    side: float = 0.5
    coupling: bool = False
    ahead: int = 1
    compiled: bool = False
    head_first: int = 0
    looks: pictures.Looks = field(default=pictures.RECIPE)
    camera: augment.Camera = field(default=augment.RECIPE)


class Pool:
    """The newest shapes: pictures, side targets and the distributions of their latents; the oldest are replaced."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._next = capacity, 0
        self._kept: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self._next, self._capacity)

    def add(self, **items: Tensor) -> None:
        """Tensors of equal length, always under the same names."""
        count = len(next(iter(items.values())))
        for name, values in items.items():
            if name not in self._kept:
                self._kept[name] = values.new_zeros(self._capacity, *values.shape[1:])
            place = torch.arange(self._next, self._next + count, device=values.device) % self._capacity
            self._kept[name][place] = values
        self._next += count

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """``count`` items at random, with repeats."""
        device = next(iter(self._kept.values())).device
        chosen = torch.randint(len(self), (count,), generator=generator, device=device)
        return {name: values[chosen] for name, values in self._kept.items()}

    def everything(self, name: str) -> Tensor:
        return self._kept[name][: len(self)]

    def state(self) -> dict[str, Any]:
        return {"next": self._next, "kept": {name: values[: len(self)] for name, values in self._kept.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        for name, values in state["kept"].items():
            self._kept[name] = values.new_zeros(self._capacity, *values.shape[1:])
            self._kept[name][: len(values)] = values[: self._capacity]
        self._next = state["next"]


def flow_times(count: int, generator: torch.Generator) -> Tensor:
    """(count,) in [0, 1], 0 = noise: 70 % logit-normal, 30 % uniform."""
    device = generator.device
    middle = torch.randn(count, generator=generator, device=device).sigmoid()
    even = torch.rand(count, generator=generator, device=device)
    return torch.where(torch.rand(count, generator=generator, device=device) < 0.7, middle, even)


def side_loss(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of the side head, and the mean absolute error of the depths for the log.

    predicted: (B, patches, CELLS_PER_PATCH · SIDE_CHANNELS); target: (B, G, G, SIDE_CHANNELS), G² cells
    """
    batch, grid, _, channels = target.shape
    patches = grid // 2
    cells = target.view(batch, patches, 2, patches, 2, channels).permute(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(batch, patches * patches, CELLS_PER_PATCH, channels)
    guess = predicted.view(batch, patches * patches, CELLS_PER_PATCH, channels)
    mask = cells[..., :1]
    covered = mask.mean().clamp_min(1e-3)
    outline = (guess[..., :1] - mask).square().mean()
    shape = ((guess[..., 1:] - cells[..., 1:]).square() * mask).mean() / covered
    depth = ((guess[..., 1:3] - cells[..., 1:3]).abs() * mask).mean() / covered
    return outline + shape, depth.detach()


class FlowPhase:
    """Losses and data of denoiser and image encoder, for as many views as the networks take (``sight``).

    ``autocast``: bf16 arithmetic in the networks."""

    name = "flow"

    def __init__(
        self,
        networks: Networks,
        stream: ShapeStream,
        generator: torch.Generator,
        options: FlowOptions | None = None,
        *,
        autocast: bool = False,
    ) -> None:
        self.networks, self._stream, self._generator = networks, stream, generator
        self._options, self._autocast = options or FlowOptions(), autocast
        self.batch_size = self._options.batch_size
        self._pool = Pool(self._options.pool)
        self._at_once = min(self.batch_size * self._options.ahead, self._options.pool)
        self._due, self._steps = 0.0, 0
        self._basis: Tensor | None = None
        networks.vae.requires_grad_(False)
        networks.model.train()
        networks.conditioner.train()

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        wanted = ("model.", "conditioner.", "side.")
        return [
            (name, parameter)
            for name, parameter in self.networks.named_parameters()
            if name.startswith(wanted) and not name.endswith("mask_token")
        ]

    @torch.no_grad()
    def _insert(self) -> None:
        """New shapes into the pool."""
        lot = self._stream.take(self._at_once)
        points = lot.points(self.networks.num_points, self._generator)
        how = (points, self.networks.image_size, self._generator, self._options.looks)
        if self.networks.num_views == 1:
            seen, side = lot.photograph(*how)
            new = {"picture": seen, "side": side.half()}
        else:
            seen, side, others = lot.photograph_around(*how)
            new = {"picture": seen, "side": side.half(), "others": others}
        means, stds = [], []
        for part in points.split(self.batch_size):  # one size, so that a compiled encoder is compiled once
            with self._precision(part):
                posterior = self.networks.encode(part)
            means.append(posterior.mean.half())
            stds.append(posterior.std.half())
        self._pool.add(mean=torch.cat(means), std=torch.cat(stds), **new)

    def _precision(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self._autocast)

    def _fill(self) -> None:
        while len(self._pool) < min(self._options.pool, 8 * self.batch_size):
            self._insert()

    def _refresh(self) -> None:
        self._fill()
        self._due += self.batch_size / self._options.reuse
        if self._due >= self._at_once:
            self._due -= self._at_once
            self._insert()
        if self._options.coupling and self._basis is None:
            self._basis = principal_axes(self._pool.everything("mean"))

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the velocity, and the side loss."""
        self._refresh()
        options, generator, networks = self._options, self._generator, self.networks
        batch = self._pool.draw(options.batch_size, generator)
        groups = sight.groups(options.batch_size, networks.num_views, generator)
        looked_at = sight.pictures(batch["picture"], batch.get("others"), groups)
        seen = augment.augment(looked_at, generator, options.camera, compiled=options.compiled)
        device = seen.device
        shape = batch["mean"].shape
        draw = torch.randn(shape, generator=generator, device=device)
        data = (batch["mean"].float() + batch["std"].float() * draw) * networks.scale
        noise = torch.randn(shape, generator=generator, device=device)
        if self._basis is not None:
            data = coupled(noise, data, self._basis)
        t = flow_times(len(data), generator)
        mixed = noise + t[:, None, None] * (data - noise)
        keep = torch.rand(len(data), 1, 1, generator=generator, device=device) >= options.unconditional
        with self._precision(seen):
            tokens = networks.look(seen)
            contexts = sight.contexts(tokens, options.batch_size, groups, networks.marks)
            parts = [networks.model(mixed[i], t[i], {"main": context * keep[i]}) for i, context in contexts]
            velocity = torch.cat(parts).float()
            fronts = tokens[: options.batch_size, 1:]
            patches = fronts.detach() if self._steps < options.head_first else fronts
            predicted = networks.side(patches).float()
        self._steps += 1
        each = (velocity - (data - noise)).square().mean((1, 2))
        side, depth = side_loss(predicted, batch["side"].float())
        early = (t < 0.4).float()
        figures = {
            "flow": each.mean(),
            "flow_early": (each * early).sum() / early.sum().clamp_min(1),
            "side": side,
            "depth_l1": depth,
        }
        if len(groups) > 1:
            figures |= {f"flow_{group.sides.shape[1]}": each[group.part].mean() for group in groups}
        return each.mean() + options.side * side, {name: value.detach() for name, value in figures.items()}

    def prepare(self, passes: int) -> None:
        """See ``loop.Phase``."""
        self._fill()
        before, due, steps = generator_state(self._generator), self._due, self._steps
        for _ in range(passes):
            self._due = -1e9
            self.loss()[0].backward()
        restore_generator(self._generator, before)
        self._due, self._steps = due, steps

    def place(self) -> dict[str, int]:
        """See ``loop.Phase``."""
        return self._stream.place()

    def finish(self, log: JsonLines) -> None:
        log.write("pool", shapes=len(self._pool), patches=(self.networks.image_size // PATCH_PX) ** 2)

    def state(self) -> dict[str, Any]:
        return {
            "stream": self._stream.place(),
            "generator": generator_state(self._generator),
            "pool": self._pool.state(),
            "due": self._due,
            "steps": self._steps,
            "basis": self._basis,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Pool and generator; the stream is opened at its own place by whoever builds it."""
        restore_generator(self._generator, state["generator"])
        self._pool.load_state(state["pool"])
        self._due, self._basis, self._steps = state["due"], state["basis"], state["steps"]
