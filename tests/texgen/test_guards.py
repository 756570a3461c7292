"""Half precision that overflows in real networks, on every device: noticed, repeated in float32, said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hy3dgen.errors import NumericalError
from hy3dgen.runtime.stages import recording, stage
from hy3dgen.texgen.utils.dehighlight_utils import Light_Shadow_Remover
from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net
from tests.texgen.stand_ins import settings
from tests.texgen.tiny import DELIGHT, PAINT, VIEW_PX

TOO_MUCH = 1e5  # more than float16 holds, nothing to float32
MAPS = [Image.new("RGB", (VIEW_PX, VIEW_PX), (i * 20, 90, 200)) for i in range(4)]
PICTURE = Image.new("RGB", (VIEW_PX, VIEW_PX), (200, 90, 20))
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
    ),
]


def fill_bias(layer: nn.Module, value: float) -> None:
    """Let a layer add ``value`` to everything."""
    bias = layer.bias
    assert isinstance(bias, torch.Tensor)
    layer.bias = nn.Parameter(torch.full_like(bias, value, dtype=torch.float32), requires_grad=False)


def painter(root: Path, device: str) -> Multiview_Diffusion_Net:
    return Multiview_Diffusion_Net(
        settings(
            multiview_ckpt_path=root / PAINT, pipe_name="hunyuanpaint", multiview_inference_steps=2,
            device=device, dtype="float16",
        )
    )  # fmt: skip


def remover(root: Path, device: str) -> Light_Shadow_Remover:
    return Light_Shadow_Remover(
        settings(light_remover_ckpt_path=root / DELIGHT, delight_inference_steps=2, device=device, dtype="float16")
    )


@pytest.mark.parametrize("device", DEVICES)
def test_views_of_an_overflowing_network(checkpoint: Path, device: str) -> None:
    paint = painter(checkpoint, device)
    with recording() as run, stage("views"):
        expected = paint([PICTURE], MAPS, [12, 15])
    assert not run.stages[0].warnings, "nothing is wrong with the network as it is"
    paint = painter(checkpoint, device)
    fill_bias(paint.pipeline.unet.unet.conv_in, TOO_MUCH)
    with recording() as run, stage("views"):
        views = paint([PICTURE], MAPS, [12, 15])
    (warning,) = run.stages[0].warnings
    assert "NaN or Inf in float16" in warning and "repeated in float32" in warning
    assert len(views) == len(expected) == 2 and all(np.array(view).max() > 0 for view in views)
    assert paint.pipeline.residency.dtype == torch.float16


@pytest.mark.parametrize("device", DEVICES)
def test_black_views(checkpoint: Path, device: str) -> None:
    paint = painter(checkpoint, device)
    fill_bias(paint.pipeline.vae.decoder.conv_out, -100.0)
    with recording() as run, stage("views"):
        views = paint([PICTURE], MAPS, [12, 15])
    assert len(views) == 2
    assert [("black" in words, "float32" in words) for words in run.stages[0].warnings] == [(True, True), (True, False)]


@pytest.mark.parametrize("device", DEVICES)
def test_black_and_overflowing_delight(checkpoint: Path, device: str) -> None:
    light = remover(checkpoint, device)
    fill_bias(light.pipeline.unet.conv_in, TOO_MUCH)
    with recording() as run, stage("delight"):
        assert np.array(light(PICTURE)).max() > 0
    assert "repeated in float32" in run.stages[0].warnings[0]
    light = remover(checkpoint, device)
    fill_bias(light.pipeline.vae.decoder.conv_out, -100.0)
    with recording(), stage("delight"), pytest.raises(NumericalError, match="no-delight"):
        light(PICTURE)
