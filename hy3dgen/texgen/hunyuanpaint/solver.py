"""Time table of the turbo mode, and the prediction formulas of latent-consistency training.

The formulas are public names with recorded numbers; only ``DDIMSolver`` is used when painting.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hy3dgen.errors import UsageError


class DDIMSolver:
    """A coarse table of ``ddim_timesteps`` of the ``timesteps`` training steps.

    alpha_cumprods: (timesteps,) float. Attributes: ``ddim_timesteps`` (K,) int64, ``ddim_alpha_cumprods`` (K,) and
    ``ddim_alpha_cumprods_prev`` (K,) float64, the table one coarse step earlier.
    """

    def __init__(self, alpha_cumprods: Tensor, timesteps: int = 1000, ddim_timesteps: int = 50) -> None:
        table = torch.as_tensor(alpha_cumprods)
        ratio = timesteps // ddim_timesteps
        self.ddim_timesteps = torch.arange(1, ddim_timesteps + 1) * ratio - 1
        self.ddim_alpha_cumprods = table[self.ddim_timesteps.to(table.device)]
        self.ddim_alpha_cumprods_prev = torch.cat([table[:1], self.ddim_alpha_cumprods[:-1]]).double()

    def to(self, device: torch.device | str) -> DDIMSolver:
        """Move the tables in place (not to MPS's float64, which does not exist: there they stay on the CPU)."""
        for name in ("ddim_timesteps", "ddim_alpha_cumprods", "ddim_alpha_cumprods_prev"):
            table = getattr(self, name)
            if not (table.dtype == torch.float64 and torch.device(device).type == "mps"):
                setattr(self, name, table.to(device))
        return self

    def ddim_step(self, pred_x0: Tensor, pred_noise: Tensor, timestep_index: Tensor, N_gen: int) -> Tensor:
        """One deterministic step back; tensors (b, N_gen, …), timestep_index (b,) places in the table."""
        before = extract_into_tensor(self.ddim_alpha_cumprods_prev, timestep_index, pred_x0.shape, N_gen)
        return before.sqrt() * pred_x0 + (1.0 - before).sqrt() * pred_noise


def extract_into_tensor(a: Tensor, t: Tensor, x_shape: torch.Size | tuple[int, ...], N_gen: int) -> Tensor:
    """``a[t]`` for each of N_gen views, shaped (b, N_gen, 1, …) to multiply a tensor of ``x_shape``.

    The tiled vector is split row by row, as in the reference, so rows are mixed for b > 1.
    """
    picked = a.gather(-1, t).repeat(N_gen)
    return picked.reshape(t.shape[0], N_gen, *([1] * (len(x_shape) - 2)))


def get_predicted_original_sample(
    model_output: Tensor,
    timesteps: Tensor,
    sample: Tensor,
    prediction_type: str,
    alphas: Tensor,
    sigmas: Tensor,
    N_gen: int,
) -> Tensor:
    """The clean sample that a prediction means. model_output: ((b n), …); sample: (b, n, …). Returns (b, n, …).

    Raises UsageError for a prediction type other than epsilon, sample and v_prediction.
    """
    alpha, sigma, predicted = _terms(model_output, timesteps, sample, alphas, sigmas, N_gen)
    if prediction_type == "epsilon":
        return (sample - sigma * predicted) / alpha
    if prediction_type == "sample":
        return predicted
    if prediction_type == "v_prediction":
        return alpha * sample - sigma * predicted
    raise _unknown(prediction_type)


def get_predicted_noise(
    model_output: Tensor,
    timesteps: Tensor,
    sample: Tensor,
    prediction_type: str,
    alphas: Tensor,
    sigmas: Tensor,
    N_gen: int,
) -> Tensor:
    """The noise that a prediction means; shapes and errors as get_predicted_original_sample."""
    alpha, sigma, predicted = _terms(model_output, timesteps, sample, alphas, sigmas, N_gen)
    if prediction_type == "epsilon":
        return predicted
    if prediction_type == "sample":
        return (sample - alpha * predicted) / sigma
    if prediction_type == "v_prediction":
        return alpha * predicted + sigma * sample
    raise _unknown(prediction_type)


def scalings_for_boundary_conditions(
    timestep: Tensor, sigma_data: float = 0.5, timestep_scaling: float = 10.0
) -> tuple[Tensor, Tensor]:
    """(c_skip, c_out) of a consistency model at ``timestep`` (any shape)."""
    scaled = timestep_scaling * timestep
    c_skip = sigma_data**2 / (scaled**2 + sigma_data**2)
    return c_skip, scaled / (scaled**2 + sigma_data**2) ** 0.5


def guidance_scale_embedding(w: Tensor, embedding_dim: int = 512, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sinusoids of 1000·w: (len(w), embedding_dim), sines first, a zero column last when the width is odd."""
    half = embedding_dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=dtype, device=w.device) * -(math.log(10000.0) / (half - 1)))
    angles = (w * 1000.0).to(dtype)[:, None] * frequencies[None]
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    return nn.functional.pad(waves, (0, embedding_dim % 2))


def append_dims(x: Tensor, target_dims: int) -> Tensor:
    """Append axes of length 1 until ``x`` has ``target_dims``. Raises UsageError when it has more."""
    missing = target_dims - x.ndim
    if missing < 0:
        raise UsageError(f"the tensor has {x.ndim} axes, {target_dims} were asked for")
    return x[(...,) + (None,) * missing]


@torch.no_grad()
def update_ema(target_params: list[Tensor], source_params: list[Tensor], rate: float = 0.99) -> None:
    """Move every target in place towards its source: target = rate·target + (1 - rate)·source."""
    for target, source in zip(target_params, source_params, strict=True):
        target.detach().mul_(rate).add_(source, alpha=1 - rate)


def _terms(
    output: Tensor, timesteps: Tensor, sample: Tensor, alphas: Tensor, sigmas: Tensor, views: int
) -> tuple[Tensor, Tensor, Tensor]:
    alpha = extract_into_tensor(alphas, timesteps, sample.shape, views)
    sigma = extract_into_tensor(sigmas, timesteps, sample.shape, views)
    return alpha, sigma, output.unflatten(0, (-1, views))


def _unknown(prediction_type: str) -> UsageError:
    return UsageError(f"unknown prediction type '{prediction_type}'; use epsilon, sample or v_prediction")
