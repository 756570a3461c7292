"""The two samplers of flow time: σ rises from 0 (noise) to 1 (data) and a state advances by Δσ · v.

This is the reverse of diffusers' own flow-match schedulers, which they share their base classes and ``config``
with. A scheduler holds the time table and the Euler step; it knows neither the denoiser nor the guidance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from hy3dgen.errors import UsageError

__all__ = [
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchEulerDiscreteSchedulerOutput",
    "ConsistencyFlowMatchEulerDiscreteScheduler",
    "ConsistencyFlowMatchEulerDiscreteSchedulerOutput",
]


@dataclass
class FlowMatchEulerDiscreteSchedulerOutput(BaseOutput):
    """prev_sample: the state at the next σ, shape and dtype of the velocity."""

    prev_sample: torch.Tensor


@dataclass
class ConsistencyFlowMatchEulerDiscreteSchedulerOutput(BaseOutput):
    """prev_sample: the state at the next σ; pred_original_sample: the straight continuation to σ = 1."""

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class _FlowTimeTable(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # diffusers' own bases disagree
    """What both schedulers share: the step counter and the σ table with its terminal 1.

    ``timesteps`` (n,) float32 = σ · num_train_timesteps; ``_table`` (n + 1,) float32 σ with the terminal 1.
    """

    _compatibles: list[str] = []  # noqa: RUF012 - the name and form that diffusers reads
    order = 1
    timesteps: torch.Tensor
    _step_index: int | None
    _begin_index: int | None

    @property
    def step_index(self) -> int | None:
        """Which step comes next; None before the first ``step``."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """The step to start from when it was set by hand, else None."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at this step instead of looking the first timestep up."""
        self._begin_index = begin_index

    def __len__(self) -> int:
        return int(self._options.num_train_timesteps)

    @property
    def _options(self) -> Any:
        """The constructor's arguments; ``config`` reads as a plain dict to type checkers."""
        return self.config

    @property
    def _table(self) -> torch.Tensor:
        raise NotImplementedError

    def _restart(self) -> None:
        self._step_index = None
        self._begin_index = None

    def index_for_timestep(self, timestep: Any, schedule_timesteps: torch.Tensor | None = None) -> int:
        """The position of ``timestep`` in the table; the second one when it occurs more than once.

        Raises UsageError when the table does not hold exactly this value.
        """
        table = self.timesteps if schedule_timesteps is None else schedule_timesteps
        found = (table == timestep).nonzero()
        if len(found) == 0:
            raise UsageError(
                f"timestep {float(timestep)} is not one of scheduler.timesteps ({len(table)} values); "
                "pass the values of scheduler.timesteps, in order"
            )
        return int(found[1 if len(found) > 1 else 0].item())

    def _advance(self, model_output: torch.Tensor, timestep: Any, sample: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The state at the next σ in the velocity's dtype, and the index of the step that led there."""
        if isinstance(timestep, int) or (isinstance(timestep, torch.Tensor) and not timestep.is_floating_point()):
            raise UsageError(
                f"step() got the integer {timestep} as timestep; pass one of scheduler.timesteps, "
                "not a step number from enumerate()"
            )
        if self._step_index is None:
            self._step_index = self.index_for_timestep(timestep) if self._begin_index is None else self._begin_index
        index = self._step_index
        table = self._table
        if index + 1 >= len(table):
            raise UsageError(
                f"step() was called {index + 1} times but the schedule has {len(table) - 1} steps; "
                "call set_timesteps() before each run"
            )
        # σ stays a 0-d float32 tensor: with a half-precision velocity the product is rounded to half precision
        # before the float32 addition, and trajectories recorded with the reference depend on that.
        moved = sample.to(torch.float32) + (table[index + 1] - table[index]) * model_output
        self._step_index = index + 1
        return moved.to(model_output.dtype), index


class FlowMatchEulerDiscreteScheduler(_FlowTimeTable):
    """Euler steps on σ with an optional time shift.

    num_train_timesteps: timesteps are σ times this
    shift: σ ← shift·σ / (1 + (shift − 1)·σ), applied to every table that is set
    use_dynamic_shifting: take the shift from ``mu`` of ``set_timesteps`` instead
    """

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, shift: float = 1.0, use_dynamic_shifting: bool = False) -> None:
        sigmas = torch.arange(1, num_train_timesteps + 1, dtype=torch.float32) / num_train_timesteps
        if not use_dynamic_shifting:
            sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
        self.sigmas = sigmas
        self.timesteps = sigmas * num_train_timesteps
        # Named as in published configs: 'min' is the last σ, which is the largest here.
        self.sigma_min = self.sigmas[-1].item()
        self.sigma_max = self.sigmas[0].item()
        self._restart()

    @property
    def _table(self) -> torch.Tensor:
        return self.sigmas

    def time_shift(self, mu: float, sigma: float, t: Any) -> Any:
        """e^μ / (e^μ + (1/t − 1)^sigma); 0 at t = 0. t: number, array or tensor in [0, 1]."""
        # the same curve written without 1/t, which has no value at 0
        toward, rest = t**sigma, (1 - t) ** sigma
        return math.exp(mu) * toward / (math.exp(mu) * toward + rest)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: np.ndarray | Sequence[float] | None = None,
        mu: float | None = None,
    ) -> None:
        """Set ``timesteps`` (n,) and ``sigmas`` (n + 1,) float32 on ``device`` and start over.

        sigmas: the σ of each step, ascending in [0, 1], before the shift; without them ``num_inference_steps``
        values from the first to the last entry of the constructor's (already shifted) table.
        Raises UsageError when neither is given, and for dynamic shifting without ``mu``.
        """
        if self._options.use_dynamic_shifting and mu is None:
            raise UsageError("this scheduler was configured with use_dynamic_shifting: set_timesteps() needs mu")
        total = self._options.num_train_timesteps
        if sigmas is None:
            if num_inference_steps is None:
                raise UsageError("set_timesteps() needs num_inference_steps or sigmas; both are None")
            values = np.linspace(total * self.sigma_max, total * self.sigma_min, num_inference_steps) / total
        else:
            values = np.asarray(sigmas, dtype=np.float64)
        if self._options.use_dynamic_shifting and mu is not None:
            values = self.time_shift(mu, 1.0, values)
        else:
            shift = self._options.shift
            values = shift * values / (1 + (shift - 1) * values)
        table = torch.from_numpy(values).to(dtype=torch.float32, device=device)
        self.num_inference_steps = len(table)
        self.timesteps = table * total
        self.sigmas = torch.cat([table, torch.ones(1, device=table.device)])
        self._restart()

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = float("inf"),
        s_noise: float = 1.0,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> FlowMatchEulerDiscreteSchedulerOutput | tuple[torch.Tensor]:
        """One Euler step of ``sample`` along ``model_output``, in the latter's dtype.

        timestep: one of ``timesteps``; only looked up at the first step of a run. The ``s_*`` arguments and
        ``generator`` belong to the signature that callers know and have no effect. Raises UsageError for an
        integer timestep and after the last step.
        """
        prev_sample, _ = self._advance(model_output, timestep, sample)
        return FlowMatchEulerDiscreteSchedulerOutput(prev_sample=prev_sample) if return_dict else (prev_sample,)

    def scale_noise(self, sample: torch.Tensor, timestep: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """σ·noise + (1 − σ)·sample, σ of each timestep (B,) along the first axis.

        This is diffusers' direction (σ = 1 is noise), opposite to ``step``; it is kept as callers know it.
        """
        indices = [self.index_for_timestep(t) for t in timestep.to(self.timesteps.device)]
        sigma = self.sigmas.to(device=sample.device, dtype=sample.dtype)[indices]
        sigma = sigma.reshape(-1, *[1] * (sample.dim() - 1))
        return sigma * noise + (1 - sigma) * sample


class ConsistencyFlowMatchEulerDiscreteScheduler(_FlowTimeTable):
    """Euler steps on a fixed grid of ``pcm_timesteps`` values of σ, for step-distilled denoisers.

    ``sigmas`` (P,) is the grid; ``sigmas_`` (n + 1,) the picked values with the terminal 1.
    """

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, pcm_timesteps: int = 50) -> None:
        if not 1 <= pcm_timesteps <= num_train_timesteps:
            raise UsageError(
                f"pcm_timesteps is {pcm_timesteps}; expected 1 to num_train_timesteps={num_train_timesteps}"
            )
        ratio = num_train_timesteps // pcm_timesteps
        indices = np.concatenate([[0], np.arange(1, pcm_timesteps) * ratio - 1]).astype(np.int64)
        grid = np.linspace(0, 1, num_train_timesteps)[indices]
        self.euler_timesteps = indices
        self.sigmas = torch.from_numpy(grid).to(torch.float32)
        self.sigmas_ = torch.cat([self.sigmas, torch.ones(1)])
        self.timesteps = self.sigmas * num_train_timesteps
        self._restart()

    @property
    def _table(self) -> torch.Tensor:
        return self.sigmas_

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        sigmas: np.ndarray | Sequence[float] | None = None,
    ) -> None:
        """Pick n evenly spaced entries of the grid and start over; n = num_inference_steps or len(sigmas).

        Only the length of ``sigmas`` counts. Raises UsageError when neither is given or n exceeds the grid.
        """
        count = len(sigmas) if num_inference_steps is None and sigmas is not None else num_inference_steps
        grid = len(self.sigmas)
        if count is None:
            raise UsageError("set_timesteps() needs num_inference_steps or sigmas; both are None")
        if not 1 <= count <= grid:
            raise UsageError(f"{count} steps were asked for; this scheduler has a grid of {grid}, so use 1 to {grid}")
        picked = np.floor(np.linspace(0, grid, count, endpoint=False)).astype(np.int64)
        chosen = self.sigmas[torch.from_numpy(picked)]
        self.num_inference_steps = count
        self.timesteps = (chosen * self._options.num_train_timesteps).to(device)
        self.sigmas_ = torch.cat([chosen, torch.ones(1)])
        self._restart()

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> ConsistencyFlowMatchEulerDiscreteSchedulerOutput | tuple[torch.Tensor]:
        """One Euler step, and the straight continuation of ``sample`` to σ = 1; both in model_output's dtype.

        ``generator`` has no effect. Raises UsageError for an integer timestep and after the last step.
        """
        prev_sample, index = self._advance(model_output, timestep, sample)
        if not return_dict:
            return (prev_sample,)
        original = sample.to(torch.float32) + (1.0 - self.sigmas_[index]) * model_output
        return ConsistencyFlowMatchEulerDiscreteSchedulerOutput(
            prev_sample=prev_sample, pred_original_sample=original.to(model_output.dtype)
        )
