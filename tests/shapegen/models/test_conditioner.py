"""Picture encoders: their transform, their views, and that they cost no heavy import."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from hy3dgen.errors import InputError, UsageError
from hy3dgen.shapegen.models.conditioner import (
    DinoImageEncoder,
    DinoImageEncoderMV,
    SingleImageEncoder,
    build_image_encoder,
    crop_centre,
    resize_shorter_side,
)

CONFIG: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}


def test_no_transformers() -> None:
    """Importing transformers takes seconds; a run that needs no hub backbone must not pay for it."""
    code = (
        "import sys, torch; from hy3dgen.shapegen.models import *; "
        f"DinoImageEncoder(config={CONFIG}, image_size=28)(torch.zeros(1, 3, 9, 9)); "
        "sys.exit(sum(name in sys.modules for name in ('transformers', 'diffusers', 'torchvision')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_resize_and_crop() -> None:
    image = torch.rand(1, 3, 40, 61)
    assert resize_shorter_side(image, 20).shape[-2:] == (20, 30)
    assert resize_shorter_side(image.transpose(2, 3), 20).shape[-2:] == (30, 20)
    assert resize_shorter_side(image, 40) is not None and resize_shorter_side(image[..., :40], 40).shape[-1] == 40
    half = resize_shorter_side(image.half(), 20)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), resize_shorter_side(image, 20), rtol=0, atol=2e-3)
    ramp = torch.arange(7.0).expand(1, 3, 4, 7)
    assert crop_centre(ramp, 4)[0, 0, 0].tolist() == [2, 3, 4, 5]  # 1.5 rounds to 2
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    assert crop_centre(ramp, 4)[0, 0, 0].tolist() == [0, 1, 2, 3]  # 0.5 rounds to 0


@torch.inference_mode()
def test_value_range() -> None:
    encoder = DinoImageEncoder(config=CONFIG, image_size=28)
    image = torch.rand(2, 3, 28, 28)
    expected = encoder(image, value_range=None)
    assert expected.shape == (2, 5, 16) and not encoder.model.training
    torch.testing.assert_close(encoder(image * 2 - 1), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(image * 255, value_range=(0, 255)), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="batch, 3"):
        encoder(image[0])


@torch.inference_mode()
def test_views_are_marked_and_ordered() -> None:
    encoder = DinoImageEncoderMV(config=CONFIG, image_size=28)
    image = torch.rand(1, 2, 3, 28, 28)
    found = encoder(image, view_idxs=[(0, 2)]).unflatten(1, (2, 5))
    plain = encoder.encode(image[0], (-1, 1))
    torch.testing.assert_close(found[0] - plain, encoder.view_embed[0, [0, 2]], rtol=0, atol=1e-5)
    assert torch.equal(encoder(image), encoder(image, view_idxs=[[0, 1]]))
    assert encoder.unconditional_embedding(3, view_idxs=[[0, 1]] * 3).shape == (3, 10, 16)
    for wrong in ([(0,)], [(0, 4)], [(0, 1), (0, 1)], [(-1, 0)]):
        with pytest.raises(UsageError, match="do not fit"):
            encoder(image, view_idxs=wrong)
    with pytest.raises(UsageError, match="view_idxs="):
        encoder.unconditional_embedding(1)
    with pytest.raises(InputError, match="views"):
        encoder(image[0])


@torch.inference_mode()
def test_views_without_class_token() -> None:
    """The reference failed here: it never removed the token that its tables left no room for."""
    encoder = DinoImageEncoderMV(config=CONFIG, image_size=28, use_cls_token=False)
    assert encoder(torch.rand(1, 2, 3, 28, 28)).shape == (1, 8, 16)


def test_nothing_left_on_meta() -> None:
    kwargs = {"config": CONFIG, "image_size": 28}
    with torch.device("meta"):
        encoder = SingleImageEncoder({"type": "DinoImageEncoderMV", "kwargs": kwargs})
    assert not list(encoder.named_buffers())
    assert not encoder.main_image_encoder.view_embed.is_meta


def test_unknown_names_are_explained() -> None:
    with pytest.raises(UsageError, match="'ResNet'"):
        build_image_encoder({"type": "ResNet"})
    with pytest.raises(UsageError, match="version="):
        DinoImageEncoder()
    odd = DinoImageEncoder(config=CONFIG | {"hidden_act": "step"}, image_size=28)
    with pytest.raises(UsageError, match="'step'"):
        odd(torch.zeros(1, 3, 28, 28))
