"""Phase one: the VAE learns to write a shape's field from points of its surface."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.generator.stream import FieldBatch, ShapeStream, field_batch
from training.log import JsonLines
from training.loop import generator_state, restore_generator
from training.networks import Networks


@dataclass(frozen=True)
class VaeOptions:
    """batch_size: shapes a step; num_queries: field values a shape; kl: weight of the mean KL, in nats per channel;
    absolute: weight of the L1 beside the squared error; statistics: batches that give the latents' scale at the end;
    ahead: batches that are made at once, many on a GPU, where a few large operations are faster than many small ones"""

    batch_size: int = 256
    num_queries: int = 2048
    kl: float = 1e-3
    absolute: float = 0.3
    statistics: int = 4
    ahead: int = 1


class VaePhase:
    """Losses and data of the VAE. ``autocast``: bf16 arithmetic in the networks."""

    name = "vae"

    def __init__(
        self,
        networks: Networks,
        stream: ShapeStream,
        generator: torch.Generator,
        options: VaeOptions | None = None,
        *,
        autocast: bool = False,
    ) -> None:
        self.networks, self._stream, self._generator = networks, stream, generator
        self._options, self._autocast = options or VaeOptions(), autocast
        self.batch_size = self._options.batch_size
        self._ready: list[FieldBatch] = []
        networks.vae.train()

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [item for item in self.networks.named_parameters() if item[0].startswith("vae.")]

    @torch.no_grad()
    def _next(self) -> FieldBatch:
        if not self._ready:
            lot = self._stream.take(self.batch_size * self._options.ahead)
            made = field_batch(lot, self.networks.num_points, self._options.num_queries, self._generator)
            self._ready = made.split(self.batch_size)
        return self._ready.pop(0)

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared and absolute error of the clamped field, and the KL of the latents."""
        options = self._options
        batch = self._next()
        with torch.autocast(batch.surface.device.type, torch.bfloat16, enabled=self._autocast):
            posterior = self.networks.encode(batch.surface)
            field = self.networks.field(posterior.sample(self._generator), batch.points)
        error = field - batch.values
        squared, absolute = error.square().mean(), error.abs().mean()
        kl = posterior.kl(dims=(0, 1, 2))
        wrong = ((field > 0) != (batch.values > 0)).float().mean()
        figures = {"mse": squared, "l1": absolute, "kl": kl, "sign_errors": wrong}
        loss = squared + options.absolute * absolute + options.kl * kl
        return loss, {name: value.detach() for name, value in figures.items()}

    def prepare(self, passes: int) -> None:
        """See ``loop.Phase``."""
        made = self._next()
        self._ready.insert(0, made)
        before = generator_state(self._generator)
        for _ in range(passes):
            self._ready.insert(0, made)
            self.loss()[0].backward()
        restore_generator(self._generator, before)

    @torch.no_grad()
    def finish(self, log: JsonLines) -> None:
        """Measure the latents' spread; its inverse becomes the scale."""
        latents = []
        for _ in range(self._options.statistics):
            points = self._stream.take(self._options.batch_size).points(self.networks.num_points, self._generator)
            with torch.autocast(points.device.type, torch.bfloat16, enabled=self._autocast):
                latents.append(self.networks.encode(points).sample(self._generator))
        everything = torch.cat(latents).flatten(0, 1)
        self.networks.scale = 1 / float(everything.std())
        spectrum = torch.linalg.eigvalsh(everything.T.cov().float()).flip(0).tolist()
        log.write("latents", scale=self.networks.scale, mean=float(everything.mean()), variances=spectrum)

    def place(self) -> dict[str, int]:
        """See ``loop.Phase``."""
        return self._stream.place()

    def state(self) -> dict[str, Any]:
        ready = [asdict(batch) for batch in self._ready]
        return {"stream": self._stream.place(), "generator": generator_state(self._generator), "ready": ready}

    def load_state(self, state: dict[str, Any]) -> None:
        """The generator's place and what was made ahead; the stream is opened at its own place by whoever builds it."""
        restore_generator(self._generator, state["generator"])
        self._ready = [FieldBatch(**batch) for batch in state["ready"]]
