"""The official layout of what was trained: config.yaml and fp16 weights; the point encoder in a file of its own.

A model for several views has a second config in a folder of its own, which names the same weights; see
``hy3dgen.weights.locate.find_inside``.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import yaml
from safetensors.torch import save

from hy3dgen.runtime.files import write_atomic
from hy3dgen.weights.locate import MANY_VIEWS_SUBFOLDER
from training.networks import TRAINING_ONLY, Config, Networks

CONFIG, WEIGHTS, POINT_ENCODER = "config.yaml", "model.fp16.safetensors", "point_encoder.fp16.safetensors"
ENCODER_OF_VAE = ("vae.encoder.", "vae.pre_kl.")


def export(networks: Networks, folder: Path) -> list[Path]:
    """Write the folder that ``Hunyuan3DDiTFlowMatchingPipeline.from_pretrained`` loads, and the point encoder and side
    head beside it, with which training goes on. The parameters are written as they are; apply averages first.

    Returns the files. A second config of an earlier export goes when the networks know one view only.
    """
    halves = {
        name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in networks.state_dict().items()
    }
    official = {name: tensor for name, tensor in halves.items() if not name.startswith(TRAINING_ONLY)}
    encoder = {name.removeprefix("vae."): tensor for name, tensor in halves.items() if name.startswith(ENCODER_OF_VAE)}
    encoder |= {name: tensor for name, tensor in halves.items() if name.startswith("side.")}
    files = {
        CONFIG: yaml.safe_dump(networks.config, sort_keys=False).encode(),
        WEIGHTS: save(official, metadata={"format": "pt"}),
        POINT_ENCODER: save(encoder, metadata={"format": "pt"}),
    }
    second = folder / MANY_VIEWS_SUBFOLDER / CONFIG
    if networks.num_views > 1:
        second.parent.mkdir(parents=True, exist_ok=True)
        files[str(second.relative_to(folder))] = yaml.safe_dump(many_views_config(networks), sort_keys=False).encode()
    else:
        second.unlink(missing_ok=True)
    for name, data in files.items():
        write_atomic(folder / name, data)
    return [folder / name for name in files]


def many_views_config(networks: Networks) -> Config:
    """The config for several views: encoder and preprocessing of the official multi-view models, the same weights."""
    config = copy.deepcopy(networks.config)
    encoder = config["conditioner"]["params"]["main_image_encoder"]
    encoder["type"], encoder["kwargs"]["view_num"] = "DinoImageEncoderMV", networks.num_views
    config["image_processor"]["target"] = "hy3dgen.shapegen.preprocessors.MVImageProcessorV2"
    return {"weights": f"../{WEIGHTS}", **config}


def num_parameters(networks: Networks) -> dict[str, int]:
    """Parameters that are shipped, in all and by component."""
    parts: dict[str, int] = {}
    for name, tensor in networks.state_dict().items():
        if not name.startswith(TRAINING_ONLY):
            part = name.split(".", 1)[0]
            parts[part] = parts.get(part, 0) + tensor.numel()
    return {"all": sum(parts.values())} | parts
