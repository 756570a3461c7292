"""The paint model's folder in the official layout: model_index.json, scheduler, unet, vae; in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from hy3dgen.runtime.files import write_atomic
from hy3dgen.texgen.files import HABITS_KEY
from training.paint.networks import PaintNetworks

FOLDER = "hunyuan3d-paint-v2-0"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def export(networks: PaintNetworks, folder: Path) -> list[Path]:
    """Write ``folder``/hunyuan3d-paint-v2-0, which ``Hunyuan3DPaintPipeline.from_pretrained`` loads. The parameters are
    written as they are; apply averages first."""
    home, config = folder / FOLDER, networks.config
    index = {
        "_class_name": "HunyuanPaintPipeline",
        "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
        "unet": ["modules", "UNet2p5DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        HABITS_KEY: {"num_inference_steps": 1, "guidance_scale": 1.0, "start": "guess", "takes_light_out": True},
    }
    files = {
        "model_index.json": _json(index),
        "scheduler/scheduler_config.json": _json(
            {"_class_name": "EulerAncestralDiscreteScheduler", **config["scheduler"]}
        ),
        "unet/config.json": _json({"_class_name": "UNet2p5DConditionModel", **config["unet"]}),
        f"unet/{WEIGHTS}": _weights(networks.unet),
        "vae/config.json": _json({"_class_name": "AutoencoderKL", **config["vae"]}),
        f"vae/{WEIGHTS}": _weights(networks.vae),
    }
    for name, data in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(home / name, data)
    return [home / name for name in files]


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _weights(module: torch.nn.Module) -> bytes:
    halves = {
        name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in module.state_dict().items()
    }
    return save(halves, metadata={"format": "pt"})
