"""The paint UNet with its blocks streamed as finely as at full size: attention stacks and resnets one by one."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from hy3dgen.runtime.offload import attached, find_units, named_tensors
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.unet.modules import UNet2p5DConditionModel
from tests.runtime.memories import CountedMemory
from tests.texgen.tiny import UNET

CPU = torch.device("cpu")
VIEWS, SIDE = 3, 16


@pytest.fixture(scope="module")
def network() -> UNet2p5DConditionModel:
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return use_attend(UNet2p5DConditionModel(UNet2DConditionModel.from_config(UNET))).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(4)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draws)

    return {
        "sample": noise(1, VIEWS, 4, SIDE, SIDE),
        "ref_latents": noise(1, 1, 4, SIDE, SIDE),
        "normal_imgs": noise(1, VIEWS, 4, SIDE, SIDE),
        "position_imgs": noise(1, VIEWS, 4, SIDE, SIDE),
        "encoder_hidden_states": noise(1, 5, int(UNET["cross_attention_dim"])),  # type: ignore[call-overload]
    }


def limit(network: torch.nn.Module) -> int:
    """Bytes of the largest attention stack: units of this size and below stay whole, as they do at full size."""
    stacks = [m for name, m in network.named_modules() if name.rpartition(".")[0].endswith("attentions")]
    return max(sum(tensor.nbytes for tensor in named_tensors(stack).values()) for stack in stacks)


def paint(network: UNet2p5DConditionModel, given: dict[str, Tensor]) -> list[Tensor]:
    rest = {k: v for k, v in given.items() if k not in ("sample", "ref_latents", "encoder_hidden_states")}
    with torch.no_grad():
        features = network.encode_reference(given["ref_latents"])
        result = network(
            given["sample"],
            torch.tensor(500),
            given["encoder_hidden_states"],
            camera_info_gen=torch.tensor([[12, 15, 18]]),
            condition_embed_dict=features,
            **rest,
        )[0]
    return [*features.values(), result]


def test_the_reference_store_and_the_result_are_the_same_bits(
    network: UNet2p5DConditionModel, given: dict[str, Tensor]
) -> None:
    plain = paint(network, given)
    size = limit(network)
    names = find_units(network.unet, size)
    assert any(".attentions." in name for name in names)
    assert any(".resnets." in name for name in names)
    assert not any("transformer_blocks" in name for name in names)
    memory = CountedMemory()
    with (
        attached(network.unet, "streamed", CPU, memory=memory, limit_bytes=size),
        attached(network.unet_dual, "streamed", CPU, memory=memory, limit_bytes=size),
    ):
        for _ in range(2):
            found = paint(network, given)
            assert len(found) == len(plain)
            assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert memory.peak < sum(tensor.nbytes for tensor in named_tensors(network).values())
