"""What a camera and a file format do to a picture, on the fly and for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

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


RECIPE = Camera()
PHOTOGRAPHS = Camera(vignette=0.25, shot_noise=0.3, chroma=0.35, ragged=0.3)


def augment(pictures: Tensor, generator: torch.Generator, camera: Camera = RECIPE) -> Tensor:
    """(B, S, S, 4) uint8 with straight alpha → (B, 3, S, S) float32 in [0, 1] on white.

    Gain, contrast, gamma, tint and saturation (15 % grey), pixel noise up to 0.04, 55 % blurred, 20 % from half
    resolution; then what ``camera`` adds. S must be even.
    """
    device = pictures.device
    batch, size = pictures.shape[:2]

    def draw(*shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=device)

    x = pictures.permute(0, 3, 1, 2).float() / 255
    alpha, x = x[:, 3:], x[:, :3]
    alpha = torch.where(draw(1, 1, 1) < camera.ragged, _ragged(alpha, draw(1, 1, 1) < 0.5), alpha)
    gain, contrast = (1 + (draw(1, 1, 1) - 0.5) * 0.5 for _ in range(2))
    shift, gamma = (draw(3, 1, 1) - 0.5) * 0.16, torch.exp((draw(1, 1, 1) - 0.5) * 0.7)
    saturation = torch.where(draw(1, 1, 1) < 0.15, 0.0, 1 + (draw(1, 1, 1) - 0.5) * 0.8)
    grey = x.mean(1, keepdim=True)
    x = (grey + (x - grey) * saturation) * gain
    x = ((x - 0.5) * contrast + 0.5 + shift).clamp(0.001, 1) ** gamma
    x = torch.where(draw(1, 1, 1) < camera.vignette, x * _vignette(size, device, draw(1, 1, 1)), x)
    noise = torch.randn(x.shape, generator=generator, device=device)
    x = x + noise * (draw(1, 1, 1) * 0.04)
    grains = _blurred(torch.randn(x.shape, generator=generator, device=device))
    shot = grains * x.clamp_min(0).sqrt() * (draw(1, 1, 1) * 0.12)
    x = torch.where(draw(1, 1, 1) < camera.shot_noise, x + shot, x).clamp(0, 1)
    x = x * alpha + (1 - alpha)
    kind = draw(1, 1, 1)
    x = torch.where(kind < 0.55, _blurred(x), torch.where(kind < 0.75, _halved(x), x))
    coarse = _halved(x - x.mean(1, keepdim=True)) + x.mean(1, keepdim=True)
    return torch.where(draw(1, 1, 1) < camera.chroma, coarse, x).clamp(0, 1)


def on_white(pictures: Tensor) -> Tensor:
    """The same without augmentation."""
    x = pictures.permute(0, 3, 1, 2).float() / 255
    return x[:, :3] * x[:, 3:] + (1 - x[:, 3:])


def _blurred(x: Tensor) -> Tensor:
    """A 3 × 3 binomial blur of every channel."""
    weights = x.new_tensor([1.0, 2.0, 1.0])
    kernel = (weights[:, None] * weights / 16)[None, None]
    flat = x.flatten(0, 1)[:, None]
    return functional.conv2d(functional.pad(flat, (1, 1, 1, 1), mode="replicate"), kernel).view_as(x)


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
