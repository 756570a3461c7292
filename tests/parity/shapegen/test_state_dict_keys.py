"""Every key and shape of the published checkpoints fits the modules of their configs, and nothing is left over.

The networks are built on the meta device at full size, from the values of the published ``config.yaml`` files.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hy3dgen.shapegen.models import Hunyuan3DDiT, ShapeVAE, SingleImageEncoder
from hy3dgen.shapegen.models.denoisers.hunyuandit import HunYuanDiTPlain

LAYOUTS = json.loads((Path(__file__).parents[2] / "data/parity/shapegen/state_dict_keys.json").read_text())

VAE = {"num_latents": 3072, "embed_dim": 64, "num_freqs": 8, "include_pi": False, "heads": 16, "width": 1024}
VAE |= {"num_decoder_layers": 16, "qkv_bias": False, "qk_norm": True}
SMALL_DECODER = {
    "geo_decoder_mlp_expand_ratio": 1,
    "geo_decoder_downsample_ratio": 2,
    "geo_decoder_ln_post": False,
}
VAE_21 = VAE | {
    "num_latents": 4096, "num_encoder_layers": 8, "point_feats": 4, "pc_size": 81920, "pc_sharpedge_size": 0,
    "with_encoder": True,
}  # fmt: skip
GIANT = {"hidden_size": 1536, "num_hidden_layers": 40, "num_attention_heads": 24, "use_swiglu_ffn": True}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "use_swiglu_ffn": False}
PLAIN_21 = {
    "input_size": 4096, "in_channels": 64, "hidden_size": 2048, "context_dim": 1024, "depth": 21, "num_heads": 16,
    "qk_norm": True, "text_len": 1370, "use_attention_pooling": False, "qk_norm_type": "rms", "qkv_bias": False,
    "num_moe_layers": 6, "num_experts": 8, "moe_top_k": 2,
}  # fmt: skip


def encoder(fields: dict[str, Any], kind: str = "DinoImageEncoder") -> nn.Module:
    kwargs = {"config": fields | {"image_size": 518, "patch_size": 14}, "image_size": 518}
    return SingleImageEncoder({"type": kind, "kwargs": kwargs})


def pipeline(model: nn.Module, vae: dict[str, Any], conditioner: nn.Module) -> nn.Module:
    return nn.ModuleDict({"model": model, "vae": ShapeVAE(**vae), "conditioner": conditioner})


MINI = {"depth": 8, "depth_single_blocks": 16}
BUILD = {
    "hunyuan3d-dit-v2-0": lambda: pipeline(Hunyuan3DDiT(), VAE, encoder(GIANT)),
    "hunyuan3d-dit-v2-0-fast": lambda: pipeline(Hunyuan3DDiT(guidance_embed=True), VAE, encoder(GIANT)),
    "hunyuan3d-dit-v2-mini": lambda: pipeline(Hunyuan3DDiT(**MINI), VAE, encoder(GIANT)),
    "hunyuan3d-dit-v2-mini-turbo": lambda: pipeline(Hunyuan3DDiT(**MINI, guidance_embed=True), VAE, encoder(GIANT)),
    "hunyuan3d-dit-v2-mv": lambda: pipeline(Hunyuan3DDiT(), VAE, encoder(GIANT, "DinoImageEncoderMV")),
    "hunyuan3d-dit-v2-1": lambda: pipeline(HunYuanDiTPlain(**PLAIN_21), VAE_21, encoder(LARGE)),
    "hunyuan3d-vae-v2-0": lambda: ShapeVAE(**VAE),
    "hunyuan3d-vae-v2-0-turbo": lambda: ShapeVAE(**VAE, **SMALL_DECODER),
    "hunyuan3d-vae-v2-1": lambda: ShapeVAE(**VAE_21),
}


def expand(entries: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Fill the {i} placeholders with every combination of their ranges."""
    keys = {}
    for entry in entries:
        ranges = [range(first, last + 1) for first, last in entry.get("indices", [])]
        for numbers in itertools.product(*ranges):
            parts = entry["key"].split("{i}")
            key = parts[0] + "".join(f"{number}{part}" for number, part in zip(numbers, parts[1:], strict=True))
            keys[key] = tuple(entry["shape"])
    return keys


def test_every_layout_is_built() -> None:
    assert set(BUILD) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keys_and_shapes(layout: str) -> None:
    with torch.device("meta"):
        module = BUILD[layout]()
    expected = expand(LAYOUTS[layout]["entries"])
    assert len(expected) == LAYOUTS[layout]["tensors"]
    found = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert found == expected
    assert sum(value.numel() for value in module.parameters()) == LAYOUTS[layout]["parameters"]
    # Nothing but what a checkpoint fills may stay on the meta device.
    assert {name for name, _ in module.named_buffers()} <= set(expected)
