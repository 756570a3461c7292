"""What a camera and a file format do to a picture, on the fly and for a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Camera:
    """Shares of pictures that go through what photographs go through; 0 is the recipe of the recorded runs.

    vignette: darker corners; shot_noise: noise that grows with brightness and has a grain; chroma: colour at half
    resolution, as JPEG stores it; ragged: an outline that a background remover left a pixel too wide or too tight
    """

    vignette: float = 0.0
    shot_noise: float = 0.0
    chroma: float = 0.0
    ragged: float = 0.0


NUM_DRAWS = 17
RECIPE = Camera()
PHOTOGRAPHS = Camera(vignette=0.25, shot_noise=0.3, chroma=0.35, ragged=0.3)


def augment(pictures: Tensor, generator: torch.Generator, camera: Camera = RECIPE, *, compiled: bool = False) -> Tensor:
    """(B, S, S, 4) uint8 with straight alpha → (B, 3, S, S) float32 in [0, 1] on white.

    Gain, contrast, gamma, tint and saturation (15 % grey), pixel noise up to 0.04, 55 % blurred, 20 % from half
    resolution; then what ``camera`` adds. S must be even. compiled: fuse the arithmetic by torch.compile
    """
    device, (batch, size) = pictures.device, pictures.shape[:2]
    draws = torch.rand(batch, NUM_DRAWS, 1, 1, 1, generator=generator, device=device)
    noise = torch.randn(batch, 3, size, size, generator=generator, device=device)
    grains = torch.randn(noise.shape, generator=generator, device=device) if camera.shot_noise else noise
    return (_compiled() if compiled else _changed)(pictures, draws, noise, grains, camera)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_changed, dynamic=False)


def _changed(pictures: Tensor, draws: Tensor, noise: Tensor, grains: Tensor, camera: Camera) -> Tensor:
    """What ``augment`` does, without chance. draws: (B, NUM_DRAWS, 1, 1, 1) uniform; noise, grains: (B, 3, S, S)."""
    draw = draws.unbind(1)
    x = pictures.permute(0, 3, 1, 2).float() / 255
    alpha, x = x[:, 3:], x[:, :3]
    if camera.ragged:
        alpha = torch.where(draw[0] < camera.ragged, _ragged(alpha, draw[1] < 0.5), alpha)
    gain, contrast, gamma = 1 + (draw[2] - 0.5) * 0.5, 1 + (draw[3] - 0.5) * 0.5, torch.exp((draw[4] - 0.5) * 0.7)
    shift = (torch.cat(draw[5:8], 1) - 0.5) * 0.16
    saturation = torch.where(draw[8] < 0.15, 0.0, 1 + (draw[9] - 0.5) * 0.8)
    grey = x.mean(1, keepdim=True)
    x = (grey + (x - grey) * saturation) * gain
    x = ((x - 0.5) * contrast + 0.5 + shift).clamp(0.001, 1) ** gamma
    if camera.vignette:
        x = torch.where(draw[10] < camera.vignette, x * _vignette(x.shape[-1], x.device, draw[11]), x)
    x = x + noise * (draw[12] * 0.04)
    if camera.shot_noise:
        shot = _blurred(grains) * x.clamp_min(0).sqrt() * (draw[13] * 0.12)
        x = torch.where(draw[14] < camera.shot_noise, x + shot, x)
    x = x.clamp(0, 1)
    x = x * alpha + (1 - alpha)
    x = torch.where(draw[15] < 0.55, _blurred(x), torch.where(draw[15] < 0.75, _halved(x), x))
    if camera.chroma:
        coarse = _halved(x - x.mean(1, keepdim=True)) + x.mean(1, keepdim=True)
        x = torch.where(draw[16] < camera.chroma, coarse, x)
    return x.clamp(0, 1)


def on_white(pictures: Tensor) -> Tensor:
    """The same without augmentation."""
    x = pictures.permute(0, 3, 1, 2).float() / 255
    return x[:, :3] * x[:, 3:] + (1 - x[:, 3:])


def _blurred(x: Tensor) -> Tensor:
    """A 3 × 3 binomial blur of every channel."""
    wide = functional.pad(x, (1, 1, 1, 1), mode="replicate")
    rows = wide[..., :-2, :] + 2 * wide[..., 1:-1, :] + wide[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def _halved(x: Tensor) -> Tensor:
    """From half the resolution."""
    return functional.interpolate(functional.avg_pool2d(x, 2), scale_factor=2, mode="bilinear", align_corners=False)


def _vignette(size: int, device: torch.device, strength: Tensor) -> Tensor:
    line = torch.linspace(-1, 1, size, device=device)
    return 1 - 0.35 * strength * (line[:, None] ** 2 + line**2) / 2


def _ragged(alpha: Tensor, wide: Tensor) -> Tensor:
    """The mask one pixel wider or tighter, with soft edges."""
    grown = functional.max_pool2d(alpha, 3, stride=1, padding=1)
    shrunk = -functional.max_pool2d(-alpha, 3, stride=1, padding=1)
    return _blurred(torch.where(wide, grown, shrunk))
