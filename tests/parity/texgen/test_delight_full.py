"""A whole delight run with tiny networks against a recorded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
from PIL import Image

from hy3dgen.texgen.utils.dehighlight_utils import DelightPipeline, Light_Shadow_Remover
from tests.parity.texgen.recipe import fill, part
from tests.parity.vectors import Vector, files, load
from tests.texgen.stand_ins import remover_of


def make(vector: Vector) -> Light_Shadow_Remover:
    config, recipe = vector.config, vector.config["weights_recipe"]
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config["unet_config"])
        vae = AutoencoderKL.from_config(config["vae_config"])
    fill(unet.to_empty(device="cpu"), part(vector.weights, "unet"), recipe["unet"])
    fill(vae.to_empty(device="cpu"), part(vector.weights, "vae"), recipe["vae"])
    scheduler = EulerAncestralDiscreteScheduler.from_config(config["checkpoint_scheduler_config"])
    return remover_of(
        DelightPipeline(vae, unet, scheduler),
        size_px=config["size_instead_of_512"],
        steps=config["num_inference_steps"],
        prompt_embeds=vector.inputs["prompt_embeds"],
        seed=config["seed"],
    )


@pytest.mark.parametrize("path", files("texgen", "delight_full"), ids=lambda p: p.stem)
def test_delight_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = load(path)
    remover = make(vector)
    given: list[torch.Tensor] = []
    decoded: list[torch.Tensor] = []
    forward, decode = remover.pipeline.unet.forward, remover.pipeline.vae.decode

    def watched_forward(sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        given.append(sample.clone())
        return forward(sample, *args, **kwargs)

    def watched_decode(latents: torch.Tensor, **kwargs: Any) -> Any:
        decoded.append(latents.clone())
        return decode(latents, **kwargs)

    monkeypatch.setattr(remover.pipeline.unet, "forward", watched_forward)
    monkeypatch.setattr(remover.pipeline.vae, "decode", watched_decode)
    image = remover(Image.fromarray(vector.inputs["image"].numpy()))

    out = vector.outputs
    torch.testing.assert_close(given[0], out["unet_input_first"], atol=1e-3, rtol=0)
    torch.testing.assert_close(decoded[0], out["final_latents_over_scale"], atol=1e-3, rtol=0)
    assert len(given) == vector.config["unet_calls"]
    assert sorted({len(sample) for sample in given}) == vector.config["unet_batch_sizes"]
    assert np.abs(np.array(image).astype(int) - out["image"].numpy().astype(int)).max() <= 1
