"""What the denoisers do on purpose (the quirks the weights were trained with) and what they no longer do wrong."""

import math
from typing import Any

import pytest
import torch

from hy3dgen.errors import InputError, UsageError
from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT, timestep_embedding
from hy3dgen.shapegen.models.denoisers.hunyuandit import Attention, CrossAttention, HunYuanDiTPlain
from hy3dgen.shapegen.models.denoisers.moe_layers import MoEBlock

SMALL: dict[str, Any] = {"in_channels": 4, "context_in_dim": 12, "hidden_size": 32, "num_heads": 4, "axes_dim": [8]}
SMALL |= {"depth": 1, "depth_single_blocks": 1}
PLAIN: dict[str, Any] = {"in_channels": 4, "hidden_size": 16, "context_dim": 16, "num_heads": 2, "text_len": 5}
PLAIN |= {"use_attention_pooling": False, "num_moe_layers": 0, "qk_norm": True, "depth": 3}


@torch.inference_mode()
def test_time_factor_is_the_longest_period() -> None:
    """E1: the published weights were trained with time_factor in the place of max_period."""
    model = Hunyuan3DDiT(**SMALL)
    t = torch.tensor([0.25, 0.7])
    frequencies = torch.exp(-math.log(1000.0) * torch.arange(128) / 128)
    angles = 1000 * t[:, None] * frequencies
    expected = model.time_in(torch.cat([angles.cos(), angles.sin()], dim=1))
    torch.testing.assert_close(model.time_vector(t, None, torch.float32), expected, rtol=1e-4, atol=1e-4)
    other = model.time_in(timestep_embedding(t, 256, 10000))
    assert not torch.allclose(other, expected, atol=1e-2)
    assert timestep_embedding(t, 7).shape == (2, 7) and not timestep_embedding(t, 7)[:, -1].any()


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(UsageError, match="divisible"):
        Hunyuan3DDiT(**(SMALL | {"num_heads": 5}))
    with pytest.raises(UsageError, match="head width 8"):
        Hunyuan3DDiT(**(SMALL | {"axes_dim": [4]}))
    with pytest.raises(UsageError, match="multiple of 8"):
        HunYuanDiTPlain(**(PLAIN | {"num_heads": 4}))
    with pytest.raises(UsageError, match="1024"):
        HunYuanDiTPlain(**PLAIN, with_decoupled_ca=True)


@torch.inference_mode()
def test_distilled_model_needs_guidance() -> None:
    model = Hunyuan3DDiT(**SMALL, guidance_embed=True).eval()
    assert model.guidance_embed is True
    arguments = (torch.randn(1, 3, 4), torch.tensor([0.5]), {"main": torch.randn(1, 5, 12)})
    with pytest.raises(UsageError, match="guidance="):
        model(*arguments)
    strong, weak = (model(*arguments, guidance=torch.tensor([scale])) for scale in (5.0, 1.0))
    assert not torch.equal(strong, weak)


@torch.inference_mode()
def test_bfloat16_runs_through() -> None:
    model = Hunyuan3DDiT(**SMALL).eval()
    x, t, context = torch.randn(2, 3, 4), torch.tensor([0.5, 0.1]), torch.randn(2, 5, 12)
    expected = model(x, t, {"main": context})
    found = model.bfloat16()(x.bfloat16(), t.bfloat16(), {"main": context.bfloat16()})
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.1)


@torch.inference_mode()
def test_heads_mix_the_projections() -> None:
    """E2: the published weights were trained with heads cut across queries ⊕ keys ⊕ values."""
    torch.manual_seed(0)
    layer = Attention(32, 4, qkv_bias=False)
    x = torch.randn(1, 6, 32)
    channels = torch.cat([layer.to_q(x), layer.to_k(x), layer.to_v(x)], dim=-1)[0]
    heads = []
    for head in range(4):
        q, k, v = channels[:, 24 * head : 24 * head + 24].split(8, dim=1)
        heads.append((q @ k.T / 8**0.5).softmax(dim=-1) @ v)
    torch.testing.assert_close(layer(x)[0], layer.out_proj(torch.cat(heads, dim=1)))

    cross = CrossAttention(32, 24, 4, qkv_bias=False)
    y = torch.randn(1, 5, 24)
    channels, queries = torch.cat([cross.to_k(y), cross.to_v(y)], dim=-1)[0], cross.to_q(x)[0]
    heads = []
    for head in range(4):
        k, v = channels[:, 16 * head : 16 * head + 16].split(8, dim=1)
        heads.append((queries[:, 8 * head : 8 * head + 8] @ k.T / 8**0.5).softmax(dim=-1) @ v)
    torch.testing.assert_close(cross(x, y)[0], cross.out_proj(torch.cat(heads, dim=1)))


@torch.inference_mode()
def test_pooling_in_a_batch() -> None:
    """E11: the reference prepended one token per item of the batch and returned too many latents."""
    torch.manual_seed(0)
    model = HunYuanDiTPlain(**(PLAIN | {"use_attention_pooling": True})).eval()
    x, t, context = torch.randn(3, 7, 4), torch.tensor([0.1, 0.5, 0.9]), torch.randn(3, 5, 16)
    found = model(x, t, {"main": context})
    alone = [model(x[i : i + 1], t[i : i + 1], {"main": context[i : i + 1]}) for i in range(3)]
    assert found.shape == x.shape
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="5 tokens"):
        model(x, t, {"main": context[:, :4]})


@torch.inference_mode()
def test_guidance_condition_is_refused() -> None:
    """E13: the reference failed with a shape error inside the network."""
    model = HunYuanDiTPlain(**PLAIN, guidance_cond_proj_dim=8)
    assert model.t_embedder.cond_proj.weight.shape == (64, 8)
    with pytest.raises(UsageError, match="guidance_cond"):
        model(torch.zeros(1, 7, 4), torch.zeros(1), {"main": torch.zeros(1, 5, 16)}, guidance_cond=torch.zeros(1, 8))


@pytest.mark.parametrize("depth", [1, 4, 5])
@torch.inference_mode()
def test_skips_are_paired(depth: int) -> None:
    model = HunYuanDiTPlain(**(PLAIN | {"depth": depth, "input_size": 7, "use_pos_emb": True})).eval()
    assert [block.skip_linear is not None for block in model.blocks] == [i > depth // 2 for i in range(depth)]
    assert model(torch.randn(1, 7, 4), torch.zeros(1), {"main": torch.randn(1, 5, 16)}).shape == (1, 7, 4)
    with pytest.raises(InputError, match="7 latents, got 6"):
        model(torch.randn(1, 6, 4), torch.zeros(1), {"main": torch.randn(1, 5, 16)})


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_experts_by_the_definition(top_k: int) -> None:
    """C21, A10: the reference stayed in training mode and ran another path there; here both modes are one."""
    torch.manual_seed(0)
    block = MoEBlock(16, num_experts=5, moe_top_k=top_k)
    x = torch.randn(2, 9, 16)
    scores = (x @ block.gate.weight.T).softmax(dim=-1)
    kept = torch.zeros_like(scores).scatter(-1, scores.topk(top_k).indices, 1.0) * scores
    expected = sum(kept[..., i : i + 1] * expert(x) for i, expert in enumerate(block.experts)) + block.shared_experts(x)
    with torch.inference_mode():
        assert torch.equal(block.train()(x), block.eval()(x))
    torch.testing.assert_close(block.eval()(x), expected, rtol=1e-4, atol=1e-6)


def test_experts_learn_and_are_balanced() -> None:
    torch.manual_seed(0)
    block = MoEBlock(8, num_experts=3, moe_top_k=1)
    x = torch.randn(1, 12, 8)
    block(x).sum().backward()
    used = set(block.gate(x)[0].flatten().tolist())
    assert all((expert.net[2].weight.grad is not None) == (i in used) for i, expert in enumerate(block.experts))
    with_loss = block.gate.weight.grad.clone()
    block.zero_grad()
    block.eval()(x).sum().backward()
    assert not torch.equal(block.gate.weight.grad, with_loss)  # the balancing loss adds to the gradient
    assert block.eval().gate(x)[2] is None
