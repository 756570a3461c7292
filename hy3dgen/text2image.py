"""Words to a picture, with HunyuanDiT on diffusers: the optional first step before a shape.

The weights are not part of this package and belong to their owner. Heavy imports wait until the class is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hy3dgen.errors import UsageError, WeightsNotFoundError
from hy3dgen.weights.download import cached_file

if TYPE_CHECKING:
    import torch
    from PIL import Image

__all__ = ["seed_everything", "HunyuanDiTPipeline"]

MODEL_ID = "Tencent-Hunyuan/HunyuanDiT-v1.1-Diffusers-Distilled"
STEPS, SIZE_PX, PAG_SCALE = 25, 1024, 1.3
PAG_LAYERS = ["blocks.(16|17|18|19)"]
LONGEST_PROMPT = 60
# The model was trained on Chinese captions. White background, 3D style, best quality.
SUFFIX = ",白色背景,3D风格,最佳质量"
# Text, close-up, cropped, out of frame, worst and low quality, JPEG artefacts, ugly, duplicate, deformed, extra limbs,
# bad hands, bad proportions, blurry.
NEGATIVE_PROMPT = "文本,特写,裁剪,出框,最差质量,低质量,JPEG伪影,丑陋,重复,变形,多余的肢体,画得不好的手,比例失调,模糊"


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global random numbers: for old scripts, this package passes generators."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)


class HunyuanDiTPipeline:
    """Draws one object on a white background from a prompt in English or Chinese.

    model_path: a folder in diffusers' layout or a hub repository
    device: None chooses by the machine (CUDA, MPS, CPU)
    offline: use only what is on this machine
    Raises WeightsNotFoundError when the weights cannot be had.
    """

    def __init__(
        self, model_path: str = MODEL_ID, device: str | torch.device | None = None, *, offline: bool = False
    ) -> None:
        from hy3dgen.runtime.device import pick_device, pick_dtype

        self.device = pick_device(device)
        self.pipe = _load(model_path, pick_dtype(self.device), offline).to(self.device)
        self.pos_txt, self.neg_txt = SUFFIX, NEGATIVE_PROMPT

    def compile(self) -> None:
        """Compile the transformer on its first use; needs a compiler that torch.compile accepts."""
        self.pipe.transformer.compile(fullgraph=True)

    def __call__(self, prompt: str, seed: int = 0) -> Image.Image:
        """One picture, RGB, 1024 x 1024, the background not removed.

        prompt: its first 60 characters count; seed: starts the noise, without touching global random numbers
        Reports its steps to the current stage and stops within one when cancelled. UsageError for an empty prompt.
        """
        from hy3dgen.runtime.seeds import generator
        from hy3dgen.runtime.stages import current, steps

        if not prompt.strip():
            raise UsageError("the prompt is empty; say in a few words what to draw")
        if len(prompt.strip()) > LONGEST_PROMPT:
            kept = prompt.strip()[:LONGEST_PROMPT]
            current().warn(f"the prompt is long; only its first {LONGEST_PROMPT} characters count: '{kept}'")
        ticks = steps(range(STEPS + 1), total=STEPS, unit="step")
        next(ticks)

        def tick(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            next(ticks, None)
            return values

        answer = self.pipe(
            prompt=prompt.strip()[:LONGEST_PROMPT] + self.pos_txt,
            negative_prompt=self.neg_txt,
            num_inference_steps=STEPS,
            pag_scale=PAG_SCALE,
            width=SIZE_PX,
            height=SIZE_PX,
            generator=generator(seed),
            callback_on_step_end=tick,
            return_dict=False,
        )
        return answer[0][0]


def is_here(model_path: str = MODEL_ID) -> bool:
    """Whether the weights are on this machine: a folder in diffusers' layout, or in the Hugging Face cache."""
    if (Path(model_path).expanduser() / "model_index.json").is_file():
        return True
    return model_path.count("/") == 1 and cached_file(model_path, "model_index.json") is not None


def ensure_here(model_path: str = MODEL_ID) -> None:
    """Raise WeightsNotFoundError, saying where to get them, when the weights are not on this machine."""
    if not is_here(model_path):
        raise _not_here(model_path)


def _load(model_path: str, dtype: torch.dtype, offline: bool) -> Any:
    if offline:
        ensure_here(model_path)
    from diffusers import AutoPipelineForText2Image

    try:
        return AutoPipelineForText2Image.from_pretrained(
            model_path, dtype=dtype, enable_pag=True, pag_applied_layers=PAG_LAYERS, local_files_only=offline
        )
    except (OSError, ValueError) as error:  # diffusers says both for what is not there or not complete
        raise _not_here(model_path) from error


def _not_here(model_path: str) -> WeightsNotFoundError:
    return WeightsNotFoundError(
        f"the text-to-image weights '{model_path}' are not on this machine or not complete; they are not part of this "
        f"package. Read their owner's licence, then get them with: hf download {MODEL_ID}; or draw the picture "
        "elsewhere and give it with --input"
    )
