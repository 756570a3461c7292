"""What the VAE is asked: query points around a shape and the clamped field there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.generator.solids import Solids


@dataclass(frozen=True)
class QueryRule:
    """tau: distance at which targets saturate, in units of the model's frame (longest side 1.9); near: standard
    deviations of the two halves of the queries near the surface; half_box: where the other half is, uniformly."""

    tau: float = 0.08
    near: tuple[float, float] = (0.02, 0.07)
    half_box: float = 1.05


def queries(surface: Tensor, count: int, generator: torch.Generator, rule: QueryRule | None = None) -> Tensor:
    """(B, count, 3) points: one half surface points with normal noise, one half anywhere in the box.

    surface: (B, N, 3 or more), N at least count / 2
    """
    rule = rule or QueryRule()
    near = count // 2
    device, dtype = surface.device, surface.dtype
    shape = (len(surface), near, 3)
    narrow = torch.rand(*shape[:2], 1, generator=generator, device=device) < 0.5
    sigma = torch.where(narrow, rule.near[0], rule.near[1]).to(dtype)
    around = surface[:, :near, :3] + sigma * torch.randn(shape, generator=generator, device=device, dtype=dtype)
    free = torch.rand(len(surface), count - near, 3, generator=generator, device=device, dtype=dtype)
    return torch.cat([around, (2 * free - 1) * rule.half_box], dim=1)


def clamped_field(solids: Solids, points: Tensor, rule: QueryRule | None = None) -> Tensor:
    """clamp(signed distance / tau, -1, 1), positive inside: (B, N) at (B, N, 3)."""
    return (solids.field(points) / (rule or QueryRule()).tau).clamp(-1, 1)


def mirrored(surface: Tensor, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half of the shapes seen in a mirror, x → -x: surface (B, N, 6) with normals, query points (B, M, 3)."""
    draw = torch.rand(len(surface), 1, 1, generator=generator, device=surface.device)
    sign = torch.where(draw < 0.5, -1.0, 1.0).to(surface.dtype)
    flip = torch.cat([sign, torch.ones_like(sign), torch.ones_like(sign)], dim=-1)
    return surface * torch.cat([flip, flip], dim=-1), points * flip
