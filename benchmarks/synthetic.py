"""Full-size checkpoints in the official layout with random weights, to measure memory and time without the real ones.

    python -m benchmarks.synthetic FOLDER [--scale full|tiny] [--parts shape delight paint]

writes FOLDER/tencent/Hunyuan3D-2/{hunyuan3d-dit-v2-0, hunyuan3d-delight-v2-0, hunyuan3d-paint-v2-0}; with
HY3DGEN_MODELS=FOLDER they are found as models '2' and 'paint'. Weights are streamed to disk tensor by tensor. What
comes out of such networks is noise, but the field of the shape is a closed bumpy ball: the last layer of the geometry
decoder is fitted to it, and the latents are kept from disturbing it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from hy3dgen.runtime.files import sha256_of_file
from hy3dgen.shapegen.pipelines import instantiate_from_config
from hy3dgen.weights.load import build_without_memory

REPO = Path("tencent") / "Hunyuan3D-2"
SHAPE, DELIGHT, PAINT = "hunyuan3d-dit-v2-0", "hunyuan3d-delight-v2-0", "hunyuan3d-paint-v2-0"
PARTS = ("shape", "delight", "paint")
SCALES = ("full", "tiny")
ROOM = "hy3dgen.shapegen"
TABLE_VALUES = 1 << 22  # random values are read from one table, at a place of its own for every tensor
RADIUS, BUMPS, BUMP_HEIGHT, SOFTNESS = 0.62, 5, 0.09, 0.25

SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False,
    "steps_offset": 1,
}  # fmt: skip


def shape_config(scale: str) -> dict[str, Any]:
    """The sections of the shape model's config.yaml, with the published sizes or tiny ones."""
    full = scale == "full"
    dino = {
        "hidden_size": 1536 if full else 24, "num_hidden_layers": 40 if full else 2,
        "num_attention_heads": 24 if full else 3, "mlp_ratio": 4, "image_size": 518 if full else 42, "patch_size": 14,
        "num_channels": 3, "hidden_act": "gelu", "layerscale_value": 1.0, "drop_path_rate": 0.0, "qkv_bias": True,
        "layer_norm_eps": 1e-6, "use_swiglu_ffn": full, "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0, "initializer_range": 0.02,
    }  # fmt: skip
    encoder = {"type": "DinoImageEncoder", "kwargs": {"config": dino, "image_size": dino["image_size"]}}
    denoiser = {
        "in_channels": 64 if full else 8, "context_in_dim": dino["hidden_size"], "hidden_size": 1024 if full else 32,
        "mlp_ratio": 4.0, "num_heads": 16 if full else 2, "depth": 16 if full else 2,
        "depth_single_blocks": 32 if full else 2, "axes_dim": [64 if full else 16], "theta": 10000, "qkv_bias": True,
        "guidance_embed": False,
    }  # fmt: skip
    vae = {
        "num_latents": 3072 if full else 24, "embed_dim": denoiser["in_channels"], "num_freqs": 8, "include_pi": False,
        "heads": 16 if full else 2, "width": 1024 if full else 128, "num_decoder_layers": 16 if full else 2,
        "qkv_bias": False, "qk_norm": True, "scale_factor": 0.9990943042622529,
    }  # fmt: skip

    def section(path: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"target": f"{ROOM}.{path}", "params": params}

    return {
        "model": section("models.Hunyuan3DDiT", denoiser),
        "vae": section("models.ShapeVAE", vae),
        "conditioner": section("models.SingleImageEncoder", {"main_image_encoder": encoder}),
        "scheduler": section("schedulers.FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 1000}),
        "image_processor": section(
            "preprocessors.ImageProcessorV2", {"size": 512 if full else 42, "border_ratio": 0.15}
        ),
        "pipeline": {"target": f"{ROOM}.pipelines.Hunyuan3DDiTFlowMatchingPipeline"},
    }


def unet_config(scale: str, in_channels: int) -> dict[str, Any]:
    """A UNet of Stable Diffusion 2.1's geometry, which both texture models have, or a tiny one."""
    if scale == "full":
        return {
            "sample_size": 64, "in_channels": in_channels, "out_channels": 4, "layers_per_block": 2,
            "block_out_channels": [320, 640, 1280, 1280], "attention_head_dim": [5, 10, 20, 20],
            "cross_attention_dim": 1024, "use_linear_projection": True,
        }  # fmt: skip
    return {
        "sample_size": 8, "in_channels": in_channels, "out_channels": 4, "layers_per_block": 1,
        "block_out_channels": [16, 32], "attention_head_dim": [2, 4], "cross_attention_dim": 12,
        "norm_num_groups": 4, "use_linear_projection": True,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }  # fmt: skip


def vae_config(scale: str) -> dict[str, Any]:
    """The picture VAE of both texture models, or a tiny one with the same factor of 8."""
    blocks = [128, 256, 512, 512] if scale == "full" else [4, 8, 8, 8]
    return {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 768 if scale == "full" else 64,
        "block_out_channels": blocks, "layers_per_block": 2 if scale == "full" else 1, "scaling_factor": 0.18215,
        "norm_num_groups": 32 if scale == "full" else 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    }  # fmt: skip


class Noise:
    """Random weights that keep a network's activations near one: equal names and seeds give equal values."""

    def __init__(self, seed: int = 0) -> None:
        table = np.random.default_rng(seed).standard_normal(TABLE_VALUES, dtype=np.float32)
        self._twice = np.concatenate([table, table])  # so that a read may start anywhere without a copy

    def values(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """(shape) float16 for the tensor of this name."""
        count, leaf = math.prod(shape), name.rpartition(".")[2]
        place = int(np.random.default_rng(hash_of(name)).integers(TABLE_VALUES))
        noise = self._twice[place : place + min(count, TABLE_VALUES)]
        if count > TABLE_VALUES:
            noise = np.resize(noise, count)
        is_norm = "norm" in name.lower() or ".ln_" in name or name.startswith("ln_")
        if len(shape) < 2:
            values = 1 + 0.05 * noise if is_norm and leaf in ("weight", "scale") else 0.02 * noise
            if leaf == "lambda1":  # DINOv2's layer scale
                values = 0.1 + 0.01 * noise
        else:
            values = noise * (0.5 / math.sqrt(max(count // shape[0], 1)))
        return values.astype(np.float16).reshape(shape)


def hash_of(name: str) -> int:
    """A number for a name that is the same in every process."""
    return zlib.crc32(name.encode())


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], value: Callable[[str], np.ndarray]) -> None:
    """Write a safetensors file of float16 tensors without holding more than one of them.

    value: called with each name in turn; must return float16 of the shape that was announced
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(words).to_bytes(8, "little"))
        file.write(words)
        for name in shapes:
            file.write(np.ascontiguousarray(value(name)).tobytes())


def shapes_of(network: nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Name and shape of every stored tensor, with a prefix."""
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in network.state_dict(keep_vars=True).items()}


def write_shape(folder: Path, scale: str = "full", *, fit_points: int = 20_000) -> Path:
    """config.yaml and model.fp16.safetensors of the shape model."""
    sections = shape_config(scale)
    noise = Noise(seed=11)
    fitted = fit_geometry(sections["vae"], noise, fit_points)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("conditioner", "model", "vae"):
        shapes |= shapes_of(build_without_memory(partial(instantiate_from_config, sections[name])), f"{name}.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")

    def value(name: str) -> np.ndarray:
        return fitted[name] if name in fitted else noise.values(name, shapes[name])

    write_safetensors(folder / "model.fp16.safetensors", shapes, value)
    return folder


def ball_field(points: Tensor) -> Tensor:
    """(N,) in (-1, 1), positive inside a closed ball with bumps. points: (N, 3)."""
    radius = points.norm(dim=-1).clamp_min(1e-6)
    direction = points / radius[:, None]
    bumps = torch.sin(BUMPS * direction[:, 0]) * torch.sin(BUMPS * direction[:, 1]) * torch.cos(BUMPS * direction[:, 2])
    return torch.tanh((RADIUS + BUMP_HEIGHT * bumps - radius) / SOFTNESS)


def fit_geometry(section: dict[str, Any], noise: Noise, num_points: int) -> dict[str, np.ndarray]:
    """The geometry decoder's tensors that make its field a closed ball: 'vae.…' name -> float16.

    The output layer is fitted to ``ball_field`` by least squares over the features that the random layers before it
    give. The attention's output is made small, so that the features, and with them the surface, hardly depend on the
    latents, which are noise here.
    """
    params = section["params"] | {"num_decoder_layers": 1}
    vae: Any = instantiate_from_config({**section, "params": params})
    decoder = vae.geo_decoder.eval()
    fitted: dict[str, np.ndarray] = {}
    for name, parameter in decoder.named_parameters():
        values = noise.values(f"vae.geo_decoder.{name}", tuple(parameter.shape))
        if name.endswith("cross_attn_decoder.attn.c_proj.weight"):
            values = values * np.float16(0.01)
        if name == "query_proj.weight":
            values = values * _low_frequencies(values.shape[1], section["params"]["num_freqs"])
        parameter.data = torch.from_numpy(values.astype(np.float32))
        fitted[f"vae.geo_decoder.{name}"] = values
    draws = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 64, section["params"]["width"], generator=draws)
    points = 2.02 * torch.rand(num_points, 3, generator=draws) - 1.01
    weight, bias = _least_squares(decoder, latents, points)
    fitted["vae.geo_decoder.output_proj.weight"] = weight.numpy().astype(np.float16)
    fitted["vae.geo_decoder.output_proj.bias"] = bias.numpy().astype(np.float16)
    return fitted


def _low_frequencies(columns: int, num_freqs: int) -> np.ndarray:
    """(columns,) float16 factors for the Fourier embedding's columns: a smooth field needs the slow ones only.

    The embedding is the coordinates, then sines, then cosines, each three times ``num_freqs`` with doubling rates.
    """
    rate = 2.0 ** (np.arange(columns - 3) % num_freqs)
    return np.concatenate([np.full(3, 3.0), 3.0 / (1 + (rate / 3) ** 3)]).astype(np.float16)


@torch.no_grad()
def _least_squares(decoder: Any, latents: Tensor, points: Tensor, ridge: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Weight (1, F) and bias (1,) of the output layer."""
    features: list[Tensor] = []
    hook = decoder.output_proj.register_forward_pre_hook(lambda module, given: features.append(given[0][0]))
    prepared = decoder.prepare(latents)
    for part in points.split(2000):
        decoder.query(part[None], prepared)
    hook.remove()
    x = torch.cat(features).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    gram = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    solved = torch.linalg.solve(gram, x.T @ ball_field(points).double()[:, None])
    return solved[:-1].T.float(), solved[-1].float()


def write_texture_network(folder: Path, network: nn.Module, config: dict[str, Any], seed: int) -> None:
    """config.json and diffusion_pytorch_model.safetensors of one network, built without memory."""
    _write_json(folder / "config.json", {"_class_name": type(network).__name__, **config})
    shapes, noise = shapes_of(network), Noise(seed)
    write_safetensors(
        folder / "diffusion_pytorch_model.safetensors", shapes, lambda name: noise.values(name, shapes[name])
    )


def write_delight(folder: Path, scale: str = "full") -> Path:
    """The delight model. Its text encoder has one layer: it runs once, for one constant, and is not measured."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    _write_json(folder / "model_index.json", {"_class_name": "StableDiffusionInstructPix2PixPipeline"})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    unet, vae = unet_config(scale, 8), vae_config(scale)
    write_texture_network(
        folder / "unet", build_without_memory(lambda: UNet2DConditionModel.from_config(unet)), unet, seed=21
    )
    write_texture_network(folder / "vae", build_without_memory(lambda: AutoencoderKL.from_config(vae)), vae, seed=22)
    _write_text_encoder(folder, unet["cross_attention_dim"])
    return folder


def write_paint(folder: Path, scale: str = "full") -> Path:
    """The paint model, both UNets in one file as published."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel

    _write_json(folder / "model_index.json", {"_class_name": "HunyuanPaintPipeline"})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    unet, vae = unet_config(scale, 4), vae_config(scale)

    def build() -> Any:
        return UNet2p5DConditionModel(UNet2DConditionModel.from_config(unet))

    write_texture_network(folder / "unet", build_without_memory(build), unet, seed=31)
    write_texture_network(folder / "vae", build_without_memory(lambda: AutoencoderKL.from_config(vae)), vae, seed=32)
    return folder


def _write_text_encoder(folder: Path, width: int) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = folder / "tokenizer"
    _write_json(tokenizer / "vocab.json", {"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2})
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    special["pad_token"] = "<|endoftext|>"
    _write_json(tokenizer / "special_tokens_map.json", special)
    _write_json(
        tokenizer / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    )
    config = CLIPTextConfig(
        vocab_size=3, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        CLIPTextModel(config).save_pretrained(folder / "text_encoder")


def write_all(root: Path, scale: str = "full", parts: tuple[str, ...] = PARTS) -> Iterator[tuple[Path, float]]:
    """Write the chosen models below ``root``; yields each folder with the seconds it took.

    A folder that a marker file says was finished is left as it is.
    """
    writers = {"shape": (SHAPE, write_shape), "delight": (DELIGHT, write_delight), "paint": (PAINT, write_paint)}
    for part in parts:
        name, write = writers[part]
        folder, started = root / REPO / name, time.perf_counter()
        marker = folder / f".synthetic-{scale}"
        if not marker.is_file():
            write(folder, scale)
            for path in sorted(folder.rglob("*.safetensors")):
                _name_by_hash(path, root / "blobs")
            marker.write_text("finished\n")
        yield folder, time.perf_counter() - started


def _name_by_hash(path: Path, blobs: Path) -> None:
    """Keep a weight file under its SHA-256 with a link in its place, as the hub's cache does.

    Runs then need not read the whole file again to say which weights they used. Without links it stays where it is.
    """
    blob = blobs / sha256_of_file(path)
    blobs.mkdir(parents=True, exist_ok=True)
    os.replace(path, blob)
    try:
        path.symlink_to(blob.resolve())
    except OSError:
        os.replace(blob, path)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """The command above."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    values = parser.parse_args(argv)
    for folder, seconds in write_all(values.folder, values.scale, tuple(values.parts)):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / 1e6:,.0f} MB in {seconds:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
