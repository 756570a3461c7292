"""Memory and time of the texture networks, before and after each saving, with full-size random weights.

    python -m benchmarks.paint_memory                  # on the GPU, writes benchmarks/results/paint_memory.json
    python -m benchmarks.paint_memory --size tiny --device cpu --output /tmp/paint.json    # does it run?

Rows: {stage, variant, saving, weights_mb, peak_allocated_mb, peak_reserved_mb, seconds, steps}; MiB, ``weights_mb`` is
what lies on the device before the call. Peaks are 0 on the CPU, where nothing counts them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from hy3dgen.runtime import memory
from hy3dgen.runtime.attention import use_backend
from hy3dgen.runtime.clock import Stopwatch
from hy3dgen.runtime.device import CUDA, describe, pick_device, pick_dtype, synchronize
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.pipeline import HunyuanPaintPipeline
from hy3dgen.texgen.hunyuanpaint.unet.modules import Conditions, UNet2p5DConditionModel, feed_forward_by_view
from hy3dgen.texgen.residency import OnDemand
from hy3dgen.texgen.savings import set_tile_size
from hy3dgen.texgen.strips import drop_strips, use_strips
from hy3dgen.texgen.utils.dehighlight_utils import DelightPipeline
from hy3dgen.weights.load import build_without_memory

RESULT = Path(__file__).resolve().parent / "results" / "paint_memory.json"
VIEWS, CAMERAS = 6, [21, 12, 15, 18, 43, 37]
SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "prediction_type": "v_prediction", "steps_offset": 1,
}  # fmt: skip
_SD_UNET = {"in_channels": 4, "out_channels": 4, "use_linear_projection": True}
_SD_VAE = {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "scaling_factor": 0.18215}


@dataclass(frozen=True)
class Size:
    """Networks of one size and the pictures they work on (pixels)."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    view_px: int
    tile_px: int


SIZES = {
    "full": Size(
        {
            **_SD_UNET, "sample_size": 64, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
            "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
        },
        {
            **_SD_VAE, "sample_size": 768, "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
            "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
        },
        512, 256,
    ),
    "tiny": Size(
        {
            **_SD_UNET, "sample_size": 16, "block_out_channels": [16, 32], "layers_per_block": 1,
            "attention_head_dim": [2, 4], "cross_attention_dim": 12, "norm_num_groups": 4,
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        },
        {
            **_SD_VAE, "sample_size": 256, "block_out_channels": [8, 8, 16], "layers_per_block": 1,
            "norm_num_groups": 4, "down_block_types": ["DownEncoderBlock2D"] * 3,
            "up_block_types": ["UpDecoderBlock2D"] * 3,
        },
        128, 64,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measured call; see the module's docstring."""

    stage: str
    variant: str
    saving: str
    weights_mb: float
    peak_allocated_mb: float
    peak_reserved_mb: float
    seconds: float
    steps: int


class Bench:
    """Networks with random weights in host memory, brought to the device as each variant needs them."""

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, steps: int) -> None:
        self.size, self.device, self.dtype, self.steps = size, device, dtype, steps
        self.rows: list[Row] = []
        random = torch.Generator().manual_seed(0)
        unet = UNet2DConditionModel.from_config
        self.paint = _filled(lambda: UNet2p5DConditionModel(unet(size.unet)), dtype, random)
        self.delight = _filled(lambda: use_attend(unet({**size.unet, "in_channels": 8})), dtype, random)
        self.vae = _filled(lambda: use_attend(AutoencoderKL.from_config(size.vae)), dtype, random)
        self.side = size.view_px // 2 ** (len(size.vae["block_out_channels"]) - 1)

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(self.device, self.dtype)

    def measure(self, stage: str, variant: str, saving: str, run: Callable[[], Any], *, steps: int = 1) -> None:
        """Warm up once, then take the peaks and the time of one more call."""
        run()
        memory.release_cached(self.device)
        held = torch.cuda.memory_allocated(self.device) if self.device.type == CUDA else 0
        memory.reset_peaks(self.device)
        synchronize(self.device)
        watch = Stopwatch()
        run()
        synchronize(self.device)
        row = Row(
            stage, variant, saving, held / memory.MIB, memory.peak_allocated_bytes(self.device) / memory.MIB,
            memory.peak_reserved_bytes(self.device) / memory.MIB, watch.elapsed_s, steps,
        )  # fmt: skip
        self.rows.append(row)
        print(f"{stage:14} {variant:46} {row.weights_mb:8.0f} {row.peak_allocated_mb:8.0f} MiB {row.seconds:8.3f} s")

    @contextlib.contextmanager
    def on_device(self, *modules: nn.Module) -> Iterator[None]:
        stay = OnDemand(self.device, self.dtype)
        with stay.visit("network", *modules):
            yield

    def paint_steps(self) -> None:
        """One denoising step of six views, one reference picture."""
        h, unet = self.side, self.paint
        cameras = torch.tensor([CAMERAS], device=self.device)
        one = {"normal_imgs": self.noise(1, VIEWS, 4, h, h), "position_imgs": self.noise(1, VIEWS, 4, h, h)}
        both = {name: maps.repeat(2, 1, 1, 1, 1) for name, maps in one.items()}
        one["camera_info_gen"], both["camera_info_gen"] = cameras, cameras.repeat(2, 1)
        sample, reference = self.noise(1, VIEWS, 4, h, h), self.noise(1, 1, 4, h, h)
        halves, two_references = sample.repeat(2, 1, 1, 1, 1), torch.cat([torch.zeros_like(reference), reference])
        scale = torch.tensor([0.0, 1.0], device=self.device, dtype=self.dtype)
        learned = unet.unet.learned_text_clip_gen.to(self.device, self.dtype)
        learned_ref = unet.unet.learned_text_clip_ref.to(self.device, self.dtype)
        text = torch.cat([torch.zeros_like(learned), learned])
        time = torch.tensor(500.0, device=self.device)

        def as_reference() -> Any:
            return unet(halves, time, text, ref_latents=two_references, ref_scale=scale, **both)

        with self.on_device(unet.unet, unet.unet_dual):
            self.measure("paint step", "reference stream in every step, both UNets", "none", as_reference)
            features = unet.encode_reference(two_references)
            self.measure(
                "paint step", "reference stream once, both UNets", "row 4",
                lambda: unet(halves, time, text, condition_embed_dict=features, ref_scale=scale, **both),
            )  # fmt: skip
            del features
        with self.on_device(unet.unet_dual):
            stream = lambda: unet.encode_reference(reference, text=learned_ref)  # noqa: E731
            self.measure("reference", "once, conditional half, stopped early", "rows 6, 10", stream)
            features = stream()
        kept = Conditions(1, learned, dict(features))
        with self.on_device(unet.unet):

            def without_reference_unet() -> Any:
                wide = {name: feature.repeat(2, 1, 1) for name, feature in features.items()}
                return unet(halves, time, text, condition_embed_dict=wide, ref_scale=scale, **both)

            self.measure("paint step", "reference UNet gone", "row 5", without_reference_unet)
            self.measure(
                "paint step", "unconditional half without text and reference, keys kept", "rows 7-9",
                lambda: unet(halves, time, None, conditions=kept, **both),
            )  # fmt: skip

            def split() -> None:
                unet(sample, time, None, conditions=Conditions(0), **one)
                unet(sample, time, None, conditions=kept, **one)

            self.measure("paint step", "halves one after the other", "row 13", split)
            with feed_forward_by_view(unet.unet):
                self.measure("paint step", "halves in turn, feed-forward of one view at a time", "lean", split)
            with use_backend("sliced"):
                self.measure("paint step", "halves one after the other, sliced attention", "memo row 6", split)

    def vae_calls(self) -> None:
        """Encoding the maps and decoding the views."""
        pictures = self.noise(VIEWS, 3, self.size.view_px, self.size.view_px)
        latents = self.noise(VIEWS, 4, self.side, self.side)
        whole = {"all pictures at once": (False, None), "one picture at a time": (True, None)}
        tiled = {**whole, f"one at a time, {self.size.tile_px} px tiles (lossy)": (True, self.size.tile_px)}

        def encode() -> Tensor:
            return self.vae.encode(pictures).latent_dist.mode()

        def decode() -> Tensor:
            return self.vae.decode(latents).sample

        for stage, part, variants, call in (
            ("VAE encode", self.vae.encoder, whole, encode),
            ("VAE decode", self.vae.decoder, tiled, decode),
        ):
            with self.on_device(self.vae):
                self.measure(stage, "all pictures at once, whole VAE resident", "none", call)
            others = [m for m in (self.vae.quant_conv, self.vae.post_quant_conv) if m is not None]
            for variant, (slicing, tile) in variants.items():
                (self.vae.enable_slicing if slicing else self.vae.disable_slicing)()
                if tile is not None:
                    set_tile_size(self.vae, tile)
                with self.on_device(part, *others):
                    self.measure(stage, variant, "rows 11, 12" if slicing else "row 11", call)
                self.vae.disable_tiling()
            self.vae.enable_slicing()
            use_strips(self.vae)
            with self.on_device(part, *others):
                self.measure(stage, "one picture at a time, in strips", "lean", call)
            drop_strips(self.vae)
            self.vae.disable_slicing()

    def whole_stages(self) -> None:
        """Delight and paint as the pipelines run them, networks resident only while they run."""
        size = (self.size.view_px, self.size.view_px)
        pixels = np.random.default_rng(0).integers(0, 255, (self.size.view_px, self.size.view_px, 3), np.uint8)
        picture, maps = Image.fromarray(pixels), [Image.fromarray(pixels)] * VIEWS
        self.vae.enable_slicing()
        delight = DelightPipeline(self.vae, self.delight, EulerAncestralDiscreteScheduler.from_config(SCHEDULER))
        text = torch.zeros(1, 77, self.size.unet["cross_attention_dim"])

        def remove_light() -> Any:
            generator = torch.Generator().manual_seed(42)
            return delight(picture, text, num_inference_steps=self.steps, generator=generator)

        self._stage("delight", delight, [self.vae, self.delight], remove_light, self.steps)
        for turbo in (False, True):
            scheduler = (LCMScheduler if turbo else EulerAncestralDiscreteScheduler).from_config(
                SCHEDULER, timestep_spacing="trailing"
            )
            pipeline: Any = HunyuanPaintPipeline(self.vae, None, None, self.paint, scheduler, None)
            pipeline.set_turbo(turbo)
            pipeline.turbo_steps = min(10, self.steps)
            networks = [self.vae, self.paint.unet, self.paint.unet_dual]

            def paint(pipeline: Any = pipeline) -> Any:
                return pipeline(
                    picture, num_inference_steps=self.steps, width=size[0], height=size[1], num_in_batch=VIEWS,
                    generator=torch.Generator(device=self.device).manual_seed(0), camera_info_gen=[CAMERAS],
                    camera_info_ref=[[0]], normal_imgs=[maps], position_imgs=[maps],
                )  # fmt: skip

            name, count = ("paint-turbo", pipeline.turbo_steps) if turbo else ("paint", self.steps)
            self._stage(name, pipeline, networks, paint, count)
            if not turbo:
                pipeline.split_guidance = True
                self._stage(f"{name}, split", pipeline, [], paint, count)

    def _stage(self, name: str, pipeline: Any, networks: list[nn.Module], run: Callable[[], Any], steps: int) -> None:
        """One stage with everything resident (when networks are named), and with each network only while it runs."""
        if networks:
            with self.on_device(*networks):
                pipeline.residency = OnDemand(self.device, self.dtype, keep=True)
                self.measure(name, "all networks resident", "none", run, steps=steps)
        pipeline.residency = OnDemand(self.device, self.dtype)
        self.measure(name, "each network only while it runs", "rows 3, 5, 11", run, steps=steps)


def _filled(build: Callable[[], Any], dtype: torch.dtype, random: torch.Generator) -> Any:
    """A network with random weights of a size that keeps activations finite, in host memory."""
    network = build_without_memory(build).to(dtype).to_empty(device="cpu").requires_grad_(False).eval()
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.5 / parameter[0].numel() ** 0.5)
    return network


def main(argv: list[str] | None = None) -> int:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="fp16 on a GPU, fp32 on the CPU, unless given")
    parser.add_argument("--steps", type=int, default=10, help="denoising steps of the whole stages")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args(argv)
    device = pick_device(arguments.device)
    dtype = pick_dtype(device, arguments.dtype)
    with torch.no_grad():
        bench = Bench(SIZES[arguments.size], device, dtype, arguments.steps)
        bench.paint_steps()
        bench.vae_calls()
        bench.whole_stages()
    machine = {"device": describe(device), "torch": torch.__version__, "dtype": str(dtype)[6:], "size": arguments.size}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    rows = [{k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()} for row in bench.rows]
    arguments.output.write_text(json.dumps({"machine": machine, "views": VIEWS, "rows": rows}, indent=1) + "\n")
    print(f"written to {arguments.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
