"""Muon for the matrices inside blocks, AdamW for everything else, one rate for both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from training.ranks import Ranks

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
BLOCK_NAMES = ("blocks", "layer.", "cross")  # parts of a name that mark a block of our networks


def orthogonalised(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The nearest (half-)orthogonal matrices, roughly: singular values come out between about 0.7 and 1.2.

    matrices: (K, m, n). The odd polynomial of NEWTON_SCHULZ is applied ``steps`` times in ``dtype``. Returns float32;
    zero matrices stay zero.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.mT if tall else x).float()


def is_hidden(name: str, parameter: Tensor, least_side: int, convolutions: bool = False) -> bool:
    """True for the matrices of blocks; the first and last layers of a network are not. ``convolutions``: also for
    kernels, as matrices of outputs by everything else."""
    if parameter.ndim != 2 and not (convolutions and parameter.ndim == 4):
        return False
    sides = parameter.shape[0], parameter[0].numel()
    return min(sides) >= least_side and any(part in name for part in BLOCK_NAMES)


class MuonAdamW:
    """One optimiser over named parameters.

    rate is given at every step. Muon: gradients are averaged (momentum), orthogonalised and scaled by
    0.2·√(longer side), so that the same rate fits AdamW. Weight decay acts on matrices only.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        weight_decay: float = 0.03,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        clip: float = 1.0,
        least_side: int = 64,
        convolutions: bool = False,
    ) -> None:
        named = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
        self._all = [parameter for _, parameter in named]
        self._decay, self._momentum, self._clip = weight_decay, momentum, clip
        self._groups: dict[tuple[int, ...], list[Tensor]] = {}
        rest = []
        for name, parameter in named:
            if is_hidden(name, parameter, least_side, convolutions):
                self._groups.setdefault(tuple(parameter.shape), []).append(parameter)
            else:
                rest.append(parameter)
        self._moments = {
            shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self._groups.items()
        }
        groups = [
            {"params": [parameter for parameter in rest if parameter.ndim >= 2], "weight_decay": weight_decay},
            {"params": [parameter for parameter in rest if parameter.ndim < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas)

    @torch.no_grad()
    def step(self, rate: float, ranks: Ranks | None = None) -> Tensor:
        """One update, with the gradients' means over ``ranks``; the gradients are cleared. Returns their norm before
        clipping, a scalar on the device."""
        if ranks is not None:
            ranks.mean_([parameter.grad for parameter in self._all if parameter.grad is not None])
        norm = nn.utils.clip_grad_norm_(self._all, self._clip)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()
        for shape, parameters in self._groups.items():
            gradient = torch.stack([_gradient(parameter) for parameter in parameters]).float()
            moment = self._moments[shape]
            moment.lerp_(gradient, 1 - self._momentum)
            flat = gradient.lerp(moment, self._momentum).flatten(2)
            update = orthogonalised(flat) * (rate * 0.2 * max(flat.shape[1:]) ** 0.5)
            torch._foreach_mul_(parameters, 1 - rate * self._decay)
            torch._foreach_sub_(parameters, list(update.reshape(gradient.shape).unbind(0)))
        for parameter in self._all:
            parameter.grad = None
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self._adamw.state_dict(), "moments": {str(k): v for k, v in self._moments.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adamw.load_state_dict(state["adamw"])
        for shape, moment in self._moments.items():
            moment.copy_(state["moments"][str(shape)])


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
