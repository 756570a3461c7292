"""Solver tables, prediction formulas and picture modes against recorded values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.errors import UsageError
from hy3dgen.texgen.hunyuanpaint import pipeline as paint
from hy3dgen.texgen.hunyuanpaint.solver import DDIMSolver
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("texgen", "paint_helpers"), ids=lambda p: p.stem)
def test_paint_helpers(path: Path) -> None:
    vector = load(path)
    given, out, views = vector.inputs, vector.outputs, vector.config["N_gen"]
    close = lambda a, b: torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)  # noqa: E731

    solver = DDIMSolver(given["alphas_cumprod"], **vector.config["ddim"])
    for name in ("ddim_timesteps", "ddim_alpha_cumprods", "ddim_alpha_cumprods_prev"):
        close(getattr(solver, name), out[name])
    assert solver.ddim_timesteps.flip(0)[::3].tolist() == vector.config["turbo_timesteps"]

    alphas, sigmas = given["alphas_cumprod"].sqrt(), (1 - given["alphas_cumprod"]).sqrt()
    for kind in ("epsilon", "sample", "v_prediction"):
        arguments = (given["model_output"], given["timesteps"], given["sample"], kind, alphas, sigmas, views)
        close(paint.get_predicted_original_sample(*arguments), out[f"pred_x0.{kind}"])
        close(paint.get_predicted_noise(*arguments), out[f"pred_noise.{kind}"])
    with pytest.raises(UsageError, match="velocity"):
        paint.get_predicted_noise(
            given["model_output"], given["timesteps"], given["sample"], "velocity", alphas, sigmas, views
        )
    x0 = given["sample"]  # what the recording fed in as the clean sample
    close(
        solver.ddim_step(x0, given["ddim_step.pred_noise"], given["ddim_step.timestep_index"], views), out["ddim_step"]
    )

    c_skip, c_out = paint.scalings_for_boundary_conditions(given["scal_t"])
    close(c_skip, out["c_skip"])
    close(c_out, out["c_out"])
    for key in (k for k in out if k.startswith("guidance_embedding_")):
        close(paint.guidance_scale_embedding(given["w"], int(key.rsplit("_", 1)[1])), out[key])
    target = [given["ema_target"].clone()]
    paint.update_ema(target, [given["ema_source"]], rate=vector.config.get("ema_rate", 0.9))
    close(target[0], out["ema"])

    grey = paint.to_rgb_image(Image.fromarray(given["rgba"].numpy()))
    difference = (torch.from_numpy(np.array(grey)).int() - out["rgba_on_grey"].int()).abs().max()
    assert difference <= 1
    with pytest.raises(ValueError, match="mode L"):
        paint.to_rgb_image(Image.new("L", (4, 4)))
