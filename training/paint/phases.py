"""The two phases of the paint model, for ``training.loop.Session``: the autoencoder, then the UNet with the decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.texgen.config import VIEWS_DEG
from hy3dgen.texgen.hunyuanpaint.unet.conditions import Conditions
from hy3dgen.texgen.views import camera_index
from training.log import JsonLines
from training.loop import generator_state, restore_generator
from training.paint.batches import GAINS, Prepared, on_white, prepared
from training.paint.networks import LAST_STEP, PaintNetworks
from training.paint.pool import Pool

CAMERAS = [camera_index(elevation, azimuth) for azimuth, elevation in VIEWS_DEG]


@dataclass(frozen=True)
class PaintOptions:
    """batch_size: scenes a step; kl: weight of the autoencoder's KL; edges: of the error of differences between
    neighbours; latent: of the squared error of latents beside that of pixels; seen, background: of pixels that the
    picture shows, and beside the object, against 1 for unseen ones; floor: squared error that nothing is gained below;
    noise_share: scenes that start from noise as the plain pipeline does; free_share: without reference and text;
    gains: how far colours are varied, see ``batches.varied``"""

    batch_size: int = 96
    kl: float = 1e-6
    edges: float = 0.5
    latent: float = 0.1
    seen: float = 0.5
    background: float = 0.02
    floor: float = 2e-3
    noise_share: float = 0.15
    free_share: float = 0.05
    gains: float = GAINS


class PaintPhase(ABC):
    """What both phases share: the data and its state."""

    name = "paint"

    def __init__(
        self,
        networks: PaintNetworks,
        pool: Pool,
        generator: torch.Generator,
        options: PaintOptions | None = None,
        *,
        autocast: bool = False,
    ) -> None:
        self.networks, self._pool, self._generator = networks, pool, generator
        self._options, self._autocast = options or PaintOptions(), autocast
        self.batch_size = self._options.batch_size
        networks.train()

    @torch.no_grad()
    def _next(self) -> Prepared:
        batch = self._pool.take(self.batch_size, self._generator)
        return prepared(batch, self._generator, gains=self._options.gains)

    def _bf16(self, like: Tensor) -> torch.autocast:
        return torch.autocast(like.device.type, torch.bfloat16, enabled=self._autocast)

    def state(self) -> dict[str, Any]:
        return {"stream": self.place(), "generator": generator_state(self._generator)}

    def load_state(self, state: dict[str, Any]) -> None:
        """The generator's place. The pool is opened at its own by whoever builds it, and filled with later scenes."""
        restore_generator(self._generator, state["generator"])

    @abstractmethod
    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        """See ``loop.Phase``."""

    @abstractmethod
    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``loop.Phase``."""

    def place(self) -> dict[str, int]:
        """See ``loop.Phase``."""
        return self._pool.place()

    def prepare(self, passes: int) -> None:
        """See ``loop.Phase``. Drawing leaves the pool as it is; all noise is the generator's, put back after."""
        before = generator_state(self._generator)
        with self._pool.unnoticed():
            for _ in range(passes):
                self.loss()[0].backward()
        restore_generator(self._generator, before)

    @abstractmethod
    def finish(self, log: JsonLines) -> None:
        """See ``loop.Phase``."""


class AutoencoderPhase(PaintPhase):
    """The autoencoder learns all that it will be given: albedo, first guesses, pictures, normal and position maps."""

    name = "paint_vae"

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [item for item in self.networks.named_parameters() if item[0].startswith("vae.")]

    @torch.no_grad()
    def _pictures(self) -> Tensor:
        """(6 a scene and one, 3, S, S): half of the views albedo, the others a guess, normals or positions."""
        item = self._next()
        batch, kinds = item.batch, torch.rand(item.target.shape[:2], generator=self._generator, device=self._device())
        kinds = kinds[:, :, None, None, None]
        maps = torch.where(kinds < 0.85, batch.normals, batch.positions)
        views = torch.where(kinds < 0.5, item.target, torch.where(kinds < 0.7, item.guess.views, maps))
        return torch.cat([views.flatten(0, 1), on_white(batch.picture)])

    def _device(self) -> torch.device:
        return next(self.networks.parameters()).device

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Absolute and squared error, error of differences at three scales, and KL."""
        options, pictures = self._options, self._pictures() * 2 - 1
        with self._bf16(pictures):
            posterior = self.networks.vae.encode(pictures).latent_dist
            made = self.networks.vae.decode(posterior.sample(self._generator)).sample
        error = made.float() - pictures
        squared, absolute = error.square().mean(), error.abs().mean()
        edges = edge_error(error)
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        figures = {"mse": squared / 4, "l1": absolute / 2, "edges": edges, "kl": kl}  # of values in [0, 1]
        figures["uses"] = self._pool.uses_now
        loss = squared + absolute + options.edges * edges + options.kl * kl
        return loss, {name: value.detach() for name, value in figures.items()}

    @torch.no_grad()
    def finish(self, log: JsonLines) -> None:
        """Measure the spread of the latents of albedo; its inverse becomes the scale."""
        networks = self.networks
        networks.scale = 1.0
        with self._pool.unnoticed():
            item = self._next()
        with torch.compiler.set_stance("force_eager"), self._bf16(item.target):
            latents = networks.encode(item.target, self._generator).float()
        networks.scale = 1 / float(latents.std())
        log.write("latents", scale=networks.scale, mean=float(latents.mean()))
        log.write("pool", **self._pool.figures())


def edge_error(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours, at full, half and quarter size. error: (B, C, H, W)."""
    total = error.new_zeros(())
    for _ in range(3):
        total = total + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        error = functional.avg_pool2d(error, 2)
    return total / 3


class ViewsPhase(PaintPhase):
    """The UNet learns to turn the first guess into albedo in one step from the last time step; some scenes start from
    noise, so that the folder works without a guess, too."""

    name = "paint_unet"

    def parameters(self) -> list[tuple[str, nn.Parameter]]:
        parts = ("unet.", "vae.decoder.", "vae.post_quant_conv.")
        return [item for item in self.networks.named_parameters() if item[0].startswith(parts)]

    def loss(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared errors: logarithm of that of a scene's pixels, through the decoder, and of latents."""
        options, item = self._options, self._next()
        size, device = len(item.batch), item.target.device
        with torch.no_grad(), self._bf16(item.target):
            start = self.networks.encode(item.guess.views, self._generator)
            wanted = self.networks.encode(item.target, self._generator)
            noise = torch.randn(start.shape, generator=self._generator, device=device)
            blind = torch.rand(size, 1, 1, 1, 1, generator=self._generator, device=device) < options.noise_share
            start = torch.where(blind, noise, start)
        free = int(options.free_share * size)
        with self._bf16(item.target):
            latents = predicted(self.networks, item, start, self._generator, free=free)
            made = self.networks.decode(latents)
        latent = (latents.float() - wanted.float()).square().mean()
        error = (made.float() - item.target).square().mean(2)
        weight = torch.where(item.unseen, 1.0, torch.where(item.guess.covered, options.seen, options.background))
        pixel = (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
        # Its logarithm, as PSNR has it: a plain mean would be about the few scenes whose back cannot be guessed.
        loss = options.latent * latent + (pixel + options.floor).log().mean()
        figures = {"latent": latent, "pixel": pixel.mean()} | _unseen_errors(item, error.detach(), blind)
        figures["uses"] = self._pool.uses_now
        return loss, {name: value.detach() for name, value in figures.items()}

    def finish(self, log: JsonLines) -> None:
        """How often scenes were used."""
        log.write("pool", **self._pool.figures())


def _unseen_errors(item: Prepared, error: Tensor, blind: Tensor) -> dict[str, Tensor]:
    """Mean squared errors of pixels that the picture does not show: ours, the first guess's, and ours from noise."""
    unseen = item.unseen
    guided = unseen & ~blind[:, :, 0, 0, 0, None, None]
    raw = (item.guess.views - item.batch.albedo).square().mean(2)

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum() / where.sum().clamp_min(1)

    return {
        "unseen_mse": mean(error, guided),
        "guess_unseen_mse": mean(raw, guided),
        "noise_unseen_mse": mean(error, unseen & ~guided),
    }


def predicted(
    networks: PaintNetworks, item: Prepared, start: Tensor, generator: torch.Generator, *, free: int = 0
) -> Tensor:
    """Scaled latents (B, 6, 4, s, s) of the views, as the pipeline's one step makes them. start: of the same shape;
    generator: of the posteriors' noise; free: so many scenes at the beginning have neither reference nor text."""
    batch = item.batch
    with torch.no_grad():
        normals, positions = networks.encode(batch.normals, generator), networks.encode(batch.positions, generator)
        reference = networks.encode(on_white(batch.picture)[free:, None], generator)
    rows = len(batch) - free
    text = networks.unet.unet.learned_text_clip_gen.expand(rows, -1, -1)
    features = networks.unet.encode_reference(reference)
    conditions = Conditions(rows, text=text, features=features)
    cameras = torch.tensor(CAMERAS, device=start.device).expand(len(batch), -1)
    velocity = networks.unet(
        start, LAST_STEP, None, conditions=conditions,
        normal_imgs=normals, position_imgs=positions, camera_info_gen=cameras,
    )[0]  # fmt: skip
    return -velocity.view(start.shape)  # at the last step the signal's share of the velocity is 0
