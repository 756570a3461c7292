"""The paint model's networks in their official classes, and the configurations that their folders are written with."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from hy3dgen.errors import WeightsDamagedError
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel

Config = dict[str, Any]
LAST_STEP = 999
GROUPS = 8
HEAD_WIDTH = 16


def paint_config(
    *, vae_widths: tuple[int, ...] = (16, 24, 32), unet_widths: tuple[int, ...] = (32, 48), view_px: int = 128
) -> Config:
    """Sizes of the shipped model: 0.20 M + 1.33 M parameters, 3.1 MB in half precision.

    The UNet attends on every level but the first.
    """
    factor = 2 ** (len(vae_widths) - 1)
    attends = [index > 0 for index in range(len(unet_widths))]
    return {
        "vae": {
            "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": view_px,
            "block_out_channels": list(vae_widths), "layers_per_block": 1, "norm_num_groups": GROUPS,
            "mid_block_add_attention": False, "scaling_factor": 1.0,
            "down_block_types": ["DownEncoderBlock2D"] * len(vae_widths),
            "up_block_types": ["UpDecoderBlock2D"] * len(vae_widths),
        },
        "unet": {
            "in_channels": 4, "out_channels": 4, "sample_size": view_px // factor,
            "block_out_channels": list(unet_widths), "layers_per_block": 1, "norm_num_groups": GROUPS,
            "attention_head_dim": [max(width // HEAD_WIDTH, 1) for width in unet_widths],
            "cross_attention_dim": 16, "use_linear_projection": True,
            "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
            "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        },
        "scheduler": {
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
            "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
            "steps_offset": 1, "clip_sample": False, "set_alpha_to_one": False,
        },
    }  # fmt: skip


class PaintNetworks(nn.Module):
    """``vae`` and ``unet``, keys as in their published files behind those prefixes.

    scale: what latents are multiplied by; in the config it is the autoencoder's ``scaling_factor``
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = copy.deepcopy(config)
        self.vae: Any = use_attend(AutoencoderKL.from_config(self.config["vae"]))
        self.unet: Any = UNet2p5DConditionModel(UNet2DConditionModel.from_config(self.config["unet"]))

    def facts(self) -> dict[str, Any]:
        """See ``loop.Trained``: the config says everything."""
        return {}

    @property
    def scale(self) -> float:
        return float(self.config["vae"]["scaling_factor"])

    @scale.setter
    def scale(self, value: float) -> None:
        self.config["vae"]["scaling_factor"] = float(value)
        self.vae.register_to_config(scaling_factor=float(value))

    @property
    def view_px(self) -> int:
        return int(self.config["vae"]["sample_size"])

    def compile_autoencoder(self) -> None:
        """Have torch fuse the autoencoder's halves when they first run, anew for each size of batch. They hold nearly
        all of the memory traffic; the UNet's many small layers would take longer to compile than they gain."""
        for half in (self.vae.encoder, self.vae.decoder):
            half.compile(dynamic=False)

    def encode(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(..., 3, S, S) in [0, 1] → scaled latents (..., 4, s, s), drawn from the posterior."""
        flat = pictures.reshape(-1, *pictures.shape[-3:]) * 2 - 1
        latents = self.vae.encode(flat).latent_dist.sample(generator) * self.scale
        return latents.view(*pictures.shape[:-3], *latents.shape[1:])

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of ``encode``; values are not cut off."""
        flat = latents.reshape(-1, *latents.shape[-3:]) / self.scale
        pictures = self.vae.decode(flat).sample * 0.5 + 0.5
        return pictures.view(*latents.shape[:-3], *pictures.shape[1:])


def initialise(networks: PaintNetworks, generator: torch.Generator) -> None:
    """New weights from ``generator``: He for convolutions, small for other matrices, last layers of branches near 0."""
    for name, parameter in networks.named_parameters():
        leaf = name.rsplit(".", 2)
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in leaf[-2] and leaf[-1] == "weight" else 0.0)
                continue
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            spread = 0.02 if "embedding.weight" in name or "learned_text" in name else fan_in**-0.5
            if leaf[-2] == "conv2" or ".to_out.0" in name or ".ff.net.2" in name or "proj_out" in name:
                spread *= 0.1
            noise = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(noise)


def load_tensors(networks: PaintNetworks, tensors: Mapping[str, Tensor], source: str) -> None:
    """All weights, in any float type. Raises WeightsDamagedError for missing or misshapen ones."""
    own = networks.state_dict()
    wrong = [name for name, value in own.items() if name not in tensors or tensors[name].shape != value.shape]
    if wrong:
        raise WeightsDamagedError(f"{source} does not fit these networks: {len(wrong)} tensors, first '{wrong[0]}'")
    networks.load_state_dict({name: tensors[name].to(value.dtype) for name, value in own.items()})
