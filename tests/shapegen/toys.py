"""A shape model of a few hundred parameters: real classes, random weights, a picture of a shaded ball."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline, instantiate_from_config

DINO = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "mlp_ratio": 4, "image_size": 42,
    "patch_size": 14, "num_channels": 3, "hidden_act": "gelu", "layerscale_value": 1.0, "drop_path_rate": 0.0,
    "qkv_bias": True, "layer_norm_eps": 1e-6, "use_swiglu_ffn": False, "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0, "initializer_range": 0.02,
}  # fmt: skip
MODULES = "hy3dgen.shapegen"


def config(*, distilled: bool = False, views: bool = False, turbo: bool = False) -> dict[str, Any]:
    """The five sections of a pipeline's config."""
    encoder = {
        "type": "DinoImageEncoderMV" if views else "DinoImageEncoder",
        "kwargs": {"config": DINO, "image_size": 42},
    }
    scheduler = "ConsistencyFlowMatchEulerDiscreteScheduler" if turbo else "FlowMatchEulerDiscreteScheduler"
    return {
        "model": {
            "target": f"{MODULES}.models.Hunyuan3DDiT",
            "params": {
                "in_channels": 6, "context_in_dim": 24, "hidden_size": 16, "num_heads": 2, "depth": 1,
                "depth_single_blocks": 1, "axes_dim": [8], "guidance_embed": distilled,
            },
        },
        "vae": {
            "target": f"{MODULES}.models.ShapeVAE",
            "params": {
                "num_latents": 16, "embed_dim": 6, "width": 32, "heads": 2, "num_decoder_layers": 1, "num_freqs": 2,
                "include_pi": False, "qkv_bias": False, "qk_norm": True, "scale_factor": 1.5,
            },
        },
        "conditioner": {"target": f"{MODULES}.models.SingleImageEncoder", "params": {"main_image_encoder": encoder}},
        "scheduler": {
            "target": f"{MODULES}.schedulers.{scheduler}",
            "params": {"num_train_timesteps": 1000, **({"pcm_timesteps": 100} if turbo else {})},
        },
        "image_processor": {
            "target": f"{MODULES}.preprocessors.{'MVImageProcessorV2' if views else 'ImageProcessorV2'}",
            "params": {"size": 42, "border_ratio": 0.15},
        },
        "pipeline": {"target": f"{MODULES}.pipelines.Hunyuan3DDiTFlowMatchingPipeline"},
    }  # fmt: skip


def networks(sections: dict[str, Any]) -> dict[str, nn.Module]:
    """The three networks with the same random weights every time."""
    draws = torch.Generator().manual_seed(5)
    built = {name: instantiate_from_config(sections[name]) for name in ("model", "vae", "conditioner")}
    for network in built.values():
        for parameter in network.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=draws)
    return built


def write_folder(folder: Path, *, dtype: torch.dtype = torch.float16, **options: bool) -> Path:
    """A model folder in the official layout."""
    sections = config(**options)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(sections))
    tensors = {
        f"{name}.{key}": value.to(dtype).contiguous()
        for name, network in networks(sections).items()
        for key, value in network.state_dict().items()
    }
    save_file(tensors, folder / "model.fp16.safetensors")
    return folder


def pipeline(**options: Any) -> Hunyuan3DDiTFlowMatchingPipeline:
    """Everything in memory, float32 on the CPU unless dtype= says otherwise."""
    dtype = options.pop("dtype", torch.float32)
    sections = config(**options)
    others = {name: instantiate_from_config(sections[name]) for name in ("scheduler", "image_processor")}
    return Hunyuan3DDiTFlowMatchingPipeline(**networks(sections), **others, device="cpu", dtype=dtype)


def picture(size_px: int = 96) -> Image.Image:
    """A shaded orange ball on nothing, RGBA."""
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    radius = np.hypot(x, y) / 0.8
    height = np.sqrt(np.clip(1 - radius**2, 0, None))
    light = np.clip(0.35 + 0.65 * (0.4 * -x + 0.5 * -y + 0.77 * height), 0, 1)
    rgb = light[..., None] * np.array([235, 140, 60])
    return Image.fromarray(np.dstack([rgb, 255 * (radius < 1)]).astype(np.uint8), "RGBA")
