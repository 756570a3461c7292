"""Whole paint runs with tiny networks against recorded ones: latents after each step, decoded floats, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from PIL import Image

from hy3dgen.texgen.hunyuanpaint.pipeline import HunyuanPaintPipeline
from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel
from tests.parity.texgen.recipe import fill, part
from tests.parity.vectors import Vector, files, load

LATENT, DECODED, PIXEL = 2e-4, 1e-3, 1
SCHEDULERS = {"EulerAncestralDiscreteScheduler": EulerAncestralDiscreteScheduler, "LCMScheduler": LCMScheduler}


def make(vector: Vector) -> HunyuanPaintPipeline:
    config, recipe = vector.config, vector.config["weights_recipe"]
    with torch.device("meta"):
        unet = UNet2p5DConditionModel(UNet2DConditionModel.from_config(config["unet_config"]))
        vae = AutoencoderKL.from_config(config["vae_config"])
    fill(unet.to_empty(device="cpu"), part(vector.weights, "unet2p5d"), recipe["unet2p5d"])
    fill(vae.to_empty(device="cpu"), part(vector.weights, "vae"), recipe["vae"])
    scheduler = SCHEDULERS[config["scheduler"]].from_config(
        config["checkpoint_scheduler_config"], **config["scheduler_overrides"]
    )
    pipeline = HunyuanPaintPipeline(vae, None, None, unet, scheduler, None)
    pipeline.vae.enable_slicing()
    pipeline.set_turbo(config["turbo"])
    return pipeline


def call(pipeline: HunyuanPaintPipeline, vector: Vector, **changes: Any) -> Any:
    given, arguments = vector.inputs, dict(vector.config["call"])
    if isinstance(arguments["guidance_scale"], str):
        arguments.pop("guidance_scale")
    seed = vector.config["seeds"]["generator (cpu torch.Generator)"]
    names = sorted(name for name in given if name.startswith("image_"))
    arguments |= {
        "image": [Image.fromarray(given[name].numpy()) for name in names],
        "normal_imgs": [[Image.fromarray(m) for m in given["normal_imgs"].numpy()]],
        "position_imgs": [[Image.fromarray(m) for m in given["position_imgs"].numpy()]],
        "generator": torch.Generator().manual_seed(seed),
        "posterior_generator": torch.Generator().manual_seed(0),
    }
    return pipeline(**(arguments | changes))


class Watch:
    """Records what the scheduler sees and gives, and what the encoder gives.

    The recorder hid the scheduler's ``generator`` argument, so the recorded step noise comes from the process's
    generator, after the encoder's draws; ``global_stream`` stands for it.
    """

    def __init__(
        self, pipeline: HunyuanPaintPipeline, global_stream: torch.Generator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.noise: list[torch.Tensor] = []
        self.latents: list[torch.Tensor] = []
        self.start: torch.Tensor | None = None
        self.encoded: list[torch.Tensor] = []
        step, encode = pipeline.scheduler.step, pipeline.encode_images

        def watched_step(noise: torch.Tensor, t: Any, latents: torch.Tensor, generator: Any, return_dict: bool) -> Any:
            self.start = latents.clone() if self.start is None else self.start
            out = step(noise, t, latents, generator=global_stream, return_dict=return_dict)
            self.noise.append(noise.clone())
            self.latents.append(out[0].clone())
            return out

        def watched_encode(*args: Any) -> torch.Tensor:
            self.encoded.append(encode(*args))
            return self.encoded[-1]

        monkeypatch.setattr(pipeline.scheduler, "step", watched_step)
        monkeypatch.setattr(pipeline, "encode_images", watched_encode)


@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize("path", files("texgen", "paint_pipeline"), ids=lambda p: p.stem)
def test_paint_pipeline(path: Path, split: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = load(path)
    out, pipeline = vector.outputs, make(vector)
    pipeline.split_guidance = split
    stream = torch.Generator().manual_seed(vector.config["seeds"]["global (python random, numpy, torch)"])
    watch = Watch(pipeline, stream, monkeypatch)
    images = call(pipeline, vector, posterior_generator=stream).images

    def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
        torch.testing.assert_close(found.to(expected.dtype), expected, atol=tolerance, rtol=0)

    for found, name in zip(watch.encoded, ("ref_latents", "normal_latents", "position_latents"), strict=True):
        close(found, out[name], LATENT)
    close(pipeline.scheduler.timesteps, out["timesteps"], 0)
    assert watch.start is not None
    torch.testing.assert_close(watch.start, out["initial_latents"], rtol=1e-6, atol=1e-6)
    scales = [float(s) for s in latent_scales(pipeline, len(watch.latents))]
    close(watch.noise[0], out["noise_pred_first"], LATENT * max(1, scales[0]))
    close(watch.noise[-1], out["noise_pred_last"], LATENT * max(1, scales[0]))
    for i, latents in enumerate(watch.latents):
        close(latents, out["latents_after_step"][i], LATENT * max(1, scales[i]))
    factor = pipeline.vae.config.scaling_factor
    close(watch.latents[-1] / factor, out["final_latents_over_scale"], LATENT * max(1, scales[-1]) / factor)
    close(pipeline.decode_latents(watch.latents[-1]), out["decoded"], DECODED)
    for image, expected in zip(images, out["images"].numpy(), strict=True):
        assert np.abs(np.array(image).astype(int) - expected.astype(int)).max() <= PIXEL


def latent_scales(pipeline: HunyuanPaintPipeline, count: int) -> list[float]:
    """The noise level of the latents after each step (1 for schedulers that keep unit variance)."""
    sigmas = getattr(pipeline.scheduler, "sigmas", None)
    return [1.0] * count if sigmas is None else [float(s) for s in sigmas[1 : count + 1]]


@pytest.mark.parametrize("path", files("texgen", "paint_pipeline")[:1], ids=lambda p: p.stem)
def test_only_the_generators_are_used(path: Path) -> None:
    """The process's own random state neither matters nor changes; the posterior's stream has the generator's seed."""
    vector = load(path)
    pipeline = make(vector)
    latents = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        latents.append(call(pipeline, vector, posterior_generator=None, output_type="latent").images)
        assert torch.equal(before, torch.get_rng_state())
    seeded = torch.Generator().manual_seed(vector.config["seeds"]["generator (cpu torch.Generator)"])
    latents.append(call(pipeline, vector, posterior_generator=seeded, output_type="latent").images)
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])
