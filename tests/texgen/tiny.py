"""A checkpoint in the official texture layout with tiny random networks, for end-to-end runs on a CPU in seconds.

    root/hunyuan3d-delight-v2-0/      {model_index.json, scheduler, tokenizer, text_encoder, unet, vae}
    root/hunyuan3d-paint-v2-0/        {model_index.json, scheduler, unet, vae, text_encoder (rubbish, never read)}
    root/hunyuan3d-paint-v2-0-turbo/  the same; VAE as .bin with old key names, extra keys in the UNet's file

A ``modules.py`` lies in the paint UNets' folders, as in the official ones; running it fails.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel

DELIGHT, PAINT, TURBO = "hunyuan3d-delight-v2-0", "hunyuan3d-paint-v2-0", "hunyuan3d-paint-v2-0-turbo"
VIEW_PX = 32
UNET = {
    "in_channels": 4, "out_channels": 4, "sample_size": 8, "block_out_channels": [16, 32], "layers_per_block": 1,
    "attention_head_dim": [2, 4], "cross_attention_dim": 12, "norm_num_groups": 4, "use_linear_projection": True,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
VAE = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": 64, "block_out_channels": [8, 8, 16],
    "layers_per_block": 1, "norm_num_groups": 4, "scaling_factor": 0.18215,
    "down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3,
}  # fmt: skip
SCHEDULER = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False,
    "steps_offset": 1,
}  # fmt: skip
OLD_KEYS = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def write_checkpoint(root: Path, *, delight: bool = True, paint: bool = True, turbo: bool = True) -> Path:
    """Write the chosen models below ``root``; returns it."""
    if delight:
        _write_delight(root / DELIGHT)
    if paint:
        _write_paint(root / PAINT, seed=1)
    if turbo:
        _write_paint(root / TURBO, seed=2, turbo=True)
    return root


def _write_delight(folder: Path) -> None:
    _write_json(folder / "model_index.json", {"_class_name": "StableDiffusionInstructPix2PixPipeline"})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write_network(folder / "unet", UNet2DConditionModel.from_config({**UNET, "in_channels": 8}), seed=3)
    _write_network(folder / "vae", AutoencoderKL.from_config(VAE), seed=4)
    _write_text_encoder(folder)


def _write_paint(folder: Path, *, seed: int, turbo: bool = False) -> None:
    _write_json(folder / "model_index.json", {"_class_name": "HunyuanPaintPipeline", "unet": ["modules", "UNet2p5D"]})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    unet = UNet2p5DConditionModel(UNet2DConditionModel.from_config(UNET))
    _write_network(folder / "unet", unet, seed=seed, config=UNET, extra=turbo)
    _write_network(folder / "vae", AutoencoderKL.from_config(VAE), seed=seed + 10, pickled_with_old_keys=turbo)
    (folder / "unet" / "modules.py").write_text("raise SystemExit('code of a checkpoint folder was run')\n")
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "pytorch_model.bin").write_bytes(b"not a weight file")


def _write_network(
    folder: Path,
    network: nn.Module,
    *,
    seed: int,
    config: dict | None = None,
    extra: bool = False,
    pickled_with_old_keys: bool = False,
) -> None:
    settings = {k: v for k, v in dict(config or network.config).items() if not k.startswith("_")}
    _write_json(folder / "config.json", {"_class_name": type(network).__name__, **settings})
    random = torch.Generator().manual_seed(seed)
    state = {key: _values(key, tensor, random) for key, tensor in network.state_dict().items()}
    if extra:
        state["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k_ip.weight"] = torch.ones(4, 4)
        state["image_proj_model_multi.norm.weight"] = torch.ones(4)
    if pickled_with_old_keys:
        torch.save({_old(key): tensor for key, tensor in state.items()}, folder / "diffusion_pytorch_model.bin")
    else:
        save_file(state, folder / "diffusion_pytorch_model.safetensors")


def _values(key: str, tensor: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Norms near one, everything else small enough for the networks to stay tame."""
    noise = torch.randn(tensor.shape, generator=random)
    if "norm" in key and key.endswith("weight"):
        return 1 + 0.05 * noise
    fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 100
    return (noise * 0.7 / fan_in**0.5).contiguous()


def _old(key: str) -> str:
    if "mid_block.attentions" not in key:
        return key
    for new, old in OLD_KEYS.items():
        key = key.replace(f".{new}.", f".{old}.")
    return key


def _write_text_encoder(folder: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = folder / "tokenizer"
    _write_json(tokenizer / "vocab.json", {"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2})
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    _write_json(
        tokenizer / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        },
    )  # fmt: skip
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(5)
    config = CLIPTextConfig(
        vocab_size=3, hidden_size=UNET["cross_attention_dim"], intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    torch.random.set_rng_state(torch_state)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
