"""A VAE in strips gives what it gives without, holds less, and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from hy3dgen.errors import UsageError
from hy3dgen.runtime.offload import attached
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.strips import drop_strips, use_strips
from tests.texgen.tiny import VAE

CONFIGS: dict[str, dict[str, Any]] = {
    "three levels": VAE,
    "two levels, other widths": VAE
    | {
        "block_out_channels": [6, 12], "norm_num_groups": 3, "layers_per_block": 2,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
    },
    "one level": VAE
    | {"block_out_channels": [8], "down_block_types": ["DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D"]},
    "another activation": VAE | {"act_fn": "gelu"},
}  # fmt: skip


def vae_of(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """Random weights whose norms and biases are not neutral."""
    torch.manual_seed(0)
    vae: Any = AutoencoderKL.from_config(config).requires_grad_(False).eval()
    for parameter in vae.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return use_attend(vae).to(dtype)


def both_ways(vae: Any, height: int, width: int, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Moments of the encoded and values of the decoded pictures."""
    draws = torch.Generator().manual_seed(1)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    dtype = vae.decoder.conv_in.weight.dtype
    pixels = torch.randn(rows, 3, height, width, generator=draws).to(dtype)
    latents = torch.randn(rows, 4, height // factor, width // factor, generator=draws).to(dtype)
    with torch.no_grad():
        return vae.encode(pixels).latent_dist.parameters, vae.decode(latents).sample


def assert_close(found: torch.Tensor, wanted: torch.Tensor, relative: float) -> None:
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert float((found - wanted).abs().max()) <= relative * float(wanted.abs().max())


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("strip_values", [1, 1500, 1 << 30])
@pytest.mark.parametrize("size", [(32, 48), (24, 20)])
def test_strips_change_nothing(config: str, strip_values: int, size: tuple[int, int]) -> None:
    """Whatever the height of the strips, one row included."""
    vae = vae_of(CONFIGS[config])
    plain = both_ways(vae, *size)
    use_strips(vae, strip_values=strip_values)
    for found, wanted in zip(both_ways(vae, *size), plain, strict=True):
        assert_close(found, wanted, 1e-5)


def test_half_precision_is_as_near_to_the_truth_as_without() -> None:
    truth = both_ways(vae_of(VAE, torch.float64), 32, 32)
    half = vae_of(VAE, torch.bfloat16)
    plain = both_ways(half, 32, 32)
    use_strips(half, strip_values=1500)
    for found, usual, wanted in zip(both_ways(half, 32, 32), plain, truth, strict=True):
        assert (found - wanted).abs().mean() <= 1.1 * (usual - wanted).abs().mean()


def test_pictures_one_at_a_time_and_streamed_weights_go_with_it() -> None:
    """The blocks are still called, so that the memory engine can bring their weights."""
    vae = vae_of(VAE)
    plain = both_ways(vae, 32, 32, rows=3)
    vae.enable_slicing()
    use_strips(vae, strip_values=1500)
    for limit in (1, 1 << 30):
        with (
            attached(vae.encoder, "disk", torch.device("cpu"), limit_bytes=limit),
            attached(vae.decoder, "disk", torch.device("cpu"), limit_bytes=limit),
        ):
            for found, wanted in zip(both_ways(vae, 32, 32, rows=3), plain, strict=True):
                assert_close(found, wanted, 1e-5)


def test_nothing_is_left_behind() -> None:
    vae = vae_of(VAE)
    before = {name: dict(module.__dict__) for name, module in vae.named_modules()}
    plain = both_ways(vae, 32, 32)
    use_strips(vae)
    use_strips(vae, strip_values=1500)
    drop_strips(vae)
    drop_strips(vae)
    assert all("forward" not in module.__dict__ for module in vae.modules())
    assert {name: module.__dict__.keys() for name, module in vae.named_modules()} == {
        name: held.keys() for name, held in before.items()
    }
    for found, wanted in zip(both_ways(vae, 32, 32), plain, strict=True):
        assert torch.equal(found, wanted)


def test_a_vae_of_another_kind_is_refused_and_left_as_it_was() -> None:
    vae = vae_of(VAE | {"up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]})
    with pytest.raises(UsageError, match="attention"):
        use_strips(vae)
    assert all("forward" not in module.__dict__ for module in vae.modules())
