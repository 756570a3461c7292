"""The schedulers away from recorded numbers: worked values, misuse, the last step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hy3dgen.errors import UsageError
from hy3dgen.shapegen.schedulers import (
    ConsistencyFlowMatchEulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
)


def test_worked_step() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, 5))
    moved = scheduler.step(torch.tensor([-1.2]), scheduler.timesteps[1], torch.tensor([2.0])).prev_sample
    assert float(moved) == pytest.approx(1.7)
    assert scheduler.step_index == 2


def test_last_step_of_a_full_linspace_changes_nothing_b1() -> None:
    """B1: σ ends at 1 twice, so the last evaluation may be skipped; exact in half precision too."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, 7))
    for dtype in (torch.float32, torch.float16):
        scheduler.set_timesteps(sigmas=np.linspace(0, 1, 7))
        scheduler.set_begin_index(6)
        sample = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
        assert torch.equal(scheduler.step(sample * 3, scheduler.timesteps[-1], sample).prev_sample, sample)


def test_start_in_the_middle_takes_the_second_of_equal_timesteps() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.array([0.0, 0.5, 0.5, 0.75]))
    scheduler.step(torch.ones(1), scheduler.timesteps[1], torch.zeros(1))
    assert scheduler.step_index == 3


@pytest.mark.parametrize("timestep", [1, torch.tensor(250), torch.tensor(250, dtype=torch.int32)])
def test_integer_timesteps_are_refused(timestep: int | torch.Tensor) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, 5))
    with pytest.raises(ValueError, match="not a step number"):
        scheduler.step(torch.ones(1), timestep, torch.zeros(1))


def test_one_step_too_many_says_so() -> None:
    scheduler = ConsistencyFlowMatchEulerDiscreteScheduler(pcm_timesteps=100)
    scheduler.set_timesteps(2)
    sample = torch.zeros(1)
    for t in scheduler.timesteps:
        sample = scheduler.step(torch.ones(1), t, sample).prev_sample
    assert float(sample) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="2 steps"):
        scheduler.step(torch.ones(1), scheduler.timesteps[-1], sample)


def test_refusals_name_what_is_missing() -> None:
    with pytest.raises(UsageError, match="needs mu"):
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).set_timesteps(sigmas=np.linspace(0, 1, 3))
    with pytest.raises(UsageError, match="num_inference_steps or sigmas"):
        FlowMatchEulerDiscreteScheduler().set_timesteps()
    with pytest.raises(UsageError, match="grid of 50"):
        ConsistencyFlowMatchEulerDiscreteScheduler().set_timesteps(51)


def test_dynamic_shift_of_zero_is_zero_without_a_warning() -> None:
    """The reference divides by zero at σ = 0; warnings are errors in this suite."""
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, 3), mu=0.7)
    assert scheduler.sigmas[0] == 0
    assert float(scheduler.sigmas[1]) == pytest.approx(np.exp(0.7) / (np.exp(0.7) + 1), rel=1e-6)


def test_config_round_trip() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    again = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    assert again.config.shift == 3.0 and len(again) == 1000
