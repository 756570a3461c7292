"""Time tables and Euler steps of both schedulers against recorded runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hy3dgen.shapegen import schedulers
from tests.parity.vectors import files, load


def make(case: dict[str, Any]) -> Any:
    return getattr(schedulers, case["scheduler"])(**case["kwargs"])


def set_arguments(case: dict[str, Any]) -> dict[str, Any]:
    arguments = dict(case["set_timesteps"])
    if isinstance(arguments.get("sigmas"), str):
        start, stop, count = arguments["sigmas"].removeprefix("linspace(").removesuffix(")").split(",")
        arguments["sigmas"] = np.linspace(float(start), float(stop), int(count))
    return arguments


def ulps_apart(a: torch.Tensor, b: torch.Tensor) -> int:
    """Largest distance in units of the last place; both float16."""
    return int((a.view(torch.int16).int() - b.view(torch.int16).int()).abs().max())


@pytest.mark.parametrize("path", files("shapegen", "schedulers"), ids=lambda p: p.stem)
def test_schedulers(path: Path) -> None:
    vector = load(path)
    for case in vector.config["cases"]:
        prefix = case["prefix"]
        out = {k.removeprefix(prefix + "."): v for k, v in vector.outputs.items() if k.startswith(prefix + ".")}
        scheduler = make(case)
        if "init_sigmas_first_last" in out:
            torch.testing.assert_close(scheduler.sigmas[[0, -1]], out["init_sigmas_first_last"], rtol=1e-6, atol=0)
        for name in ("sigma_min", "sigma_max"):
            if name in case:
                assert getattr(scheduler, name) == pytest.approx(case[name], rel=1e-6)
        if "grid_sigmas" in out:
            torch.testing.assert_close(scheduler.sigmas, out["grid_sigmas"], rtol=1e-6, atol=0)
        scheduler.set_timesteps(**set_arguments(case))
        table = scheduler.sigmas_ if hasattr(scheduler, "sigmas_") else scheduler.sigmas
        torch.testing.assert_close(scheduler.timesteps, out["timesteps"], rtol=1e-6, atol=0)
        torch.testing.assert_close(table, out["sigmas"], rtol=1e-6, atol=0)

        velocities = vector.inputs[f"{prefix}.model_outputs"]
        sample = vector.inputs[f"{prefix}.sample"]
        for i, t in enumerate(scheduler.timesteps):
            result = scheduler.step(velocities[i], t, sample)
            sample = result.prev_sample
            torch.testing.assert_close(sample, out["prev_samples"][i], rtol=1e-5, atol=1e-6)
            if "pred_original_samples" in out:
                torch.testing.assert_close(
                    result.pred_original_sample, out["pred_original_samples"][i], rtol=1e-5, atol=1e-6
                )


@pytest.mark.parametrize("path", files("shapegen", "schedulers"), ids=lambda p: p.stem)
def test_schedulers_in_half_precision(path: Path) -> None:
    vector = load(path)
    checked = 0
    for case in vector.config["cases"]:
        prefix = case["prefix"]
        if f"{prefix}.prev_samples_fp16" not in vector.outputs:
            continue
        scheduler = make(case)
        scheduler.set_timesteps(**set_arguments(case))
        sample = vector.inputs[f"{prefix}.sample"].half()
        velocities = vector.inputs[f"{prefix}.model_outputs"].half()
        for i, t in enumerate(scheduler.timesteps):
            sample = scheduler.step(velocities[i], t, sample).prev_sample
            assert ulps_apart(sample, vector.outputs[f"{prefix}.prev_samples_fp16"][i]) <= 1
            checked += 1
        model_time = scheduler.timesteps.half() / scheduler.config.num_train_timesteps
        assert ulps_apart(model_time, vector.outputs[f"{prefix}.model_timestep_fp16"]) <= 1
    assert checked


@pytest.mark.parametrize("path", files("shapegen", "schedulers"), ids=lambda p: p.stem)
def test_scale_noise(path: Path) -> None:
    vector = load(path)
    if "scale_noise" not in vector.outputs:
        pytest.skip("this file has no scale_noise case")
    scheduler = schedulers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=np.linspace(0, 1, 5))
    inputs = vector.inputs
    got = scheduler.scale_noise(
        inputs["scale_noise.sample"], inputs["scale_noise.timestep"], inputs["scale_noise.noise"]
    )
    torch.testing.assert_close(got, vector.outputs["scale_noise"], rtol=1e-5, atol=1e-6)
