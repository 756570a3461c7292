"""Names of the files in the official texture checkpoints. Plain data."""

from __future__ import annotations

WEIGHT_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.fp16.bin",
)
TEXT_WEIGHT_NAMES = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin")
EMPTY_PROMPT = "empty_prompt.safetensors"

DELIGHT_SUBFOLDER = "hunyuan3d-delight-v2-0"

# Files that a run needs; for a weight file the other container is as good. Nothing else is ever fetched.
PAINT_FILES = (
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)
DELIGHT_FILES = PAINT_FILES
TEXT_FILES = (
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
)

# In a paint folder's model_index.json: how a model wants to be run, see ``locating.habits``. Others ignore it.
HABITS_KEY = "hy3dgen"
