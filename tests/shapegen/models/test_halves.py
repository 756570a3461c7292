"""Carrying one token for 'no picture' gives what carrying all of them gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hy3dgen.runtime.attention import use_backend
from hy3dgen.runtime.stages import recording
from hy3dgen.shapegen import sampling
from hy3dgen.shapegen.models.denoisers.halves import halves_of
from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT
from hy3dgen.shapegen.models.denoisers.hunyuandit import HunYuanDiTPlain
from tests.shapegen import toys

LATENTS, TOKENS = 10, 17


def denoiser() -> Hunyuan3DDiT:
    torch.manual_seed(3)
    return Hunyuan3DDiT(4, 12, hidden_size=32, num_heads=4, axes_dim=[8], depth=2, depth_single_blocks=3).eval()


def guided_inputs(batch: int, width: int = 12) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Latents and times of one half, and the condition of both."""
    picture = torch.randn(batch, TOKENS, width)
    condition = {"main": torch.cat([picture, torch.zeros_like(picture)])}
    return torch.randn(batch, LATENTS, 4), torch.rand(batch), condition


@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("backend", ["sdpa", "sliced"])
@torch.inference_mode()
def test_the_guided_velocity_is_the_same(batch: int, split: bool, backend: str) -> None:
    model = denoiser()
    latents, time, condition = guided_inputs(batch)
    short = model.prepare_guided(condition)
    with use_backend(backend):
        expected = sampling.guided(model, model.prepare_condition(condition), 5.0, split=split)(latents, time)
        found = sampling.guided(model, short, 5.0, split=split)(latents, time)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
        model.double()
        latents, time, condition = latents.double(), time.double(), {"main": condition["main"].double()}
        expected = sampling.guided(model, condition, 5.0, split=split)(latents, time)
        found = sampling.guided(model, model.prepare_guided(condition), 5.0, split=split)(latents, time)
    # RMS norms and time are float32 in every dtype.
    torch.testing.assert_close(found, expected, rtol=1e-4 if backend == "sliced" else 1e-6, atol=2e-6)


def plain(**options: Any) -> HunYuanDiTPlain:
    torch.manual_seed(4)
    sizes: dict[str, Any] = {"in_channels": 4, "hidden_size": 16, "context_dim": 12, "num_heads": 2, "depth": 4}
    sizes |= {"text_len": TOKENS, "num_moe_layers": 1, "num_experts": 4, "qk_norm": True}
    return HunYuanDiTPlain(**{**sizes, **options}).eval()


@pytest.mark.parametrize("split", [False, True], ids=["together", "split"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("pooling", [False, True], ids=["tokens", "pooled"])
@torch.inference_mode()
def test_the_guided_velocity_of_the_plain_denoiser_is_the_same(batch: int, split: bool, pooling: bool) -> None:
    options: dict[str, Any] = {"use_attention_pooling": True, "context_dim": 16} if pooling else {}
    model = plain(**{"use_attention_pooling": False, **options}).double()
    latents, time, condition = guided_inputs(batch, model.context_dim)
    latents, time, condition = latents.double(), time.double(), {"main": condition["main"].double()}
    expected = sampling.guided(model, model.prepare_condition(condition), 5.0, split=split)(latents, time)
    found = sampling.guided(model, model.prepare_guided(condition), 5.0, split=split)(latents, time)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6)
    assert not torch.allclose(found, sampling.unguided(model, {"main": condition["main"][:batch]})(latents, time))


@torch.inference_mode()
def test_the_plain_denoiser_asks_nothing_of_equal_tokens() -> None:
    model = plain(use_attention_pooling=False)
    seen: list[tuple[int, ...]] = []
    for block in model.blocks:
        for name in ("to_q", "to_k", "out_proj"):
            block.attn2.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[:2]))
    latents, time, condition = guided_inputs(1)
    sampling.guided(model, model.prepare_guided(condition), 5.0)(latents, time)
    assert seen == [(1, TOKENS + 1), (1, LATENTS + 1), (1, LATENTS + 2)] * 4  # the time is a token


def test_a_decoupled_model_keeps_all_tokens() -> None:
    model = plain(context_dim=1024, use_attention_pooling=False, with_decoupled_ca=True, decoupled_ca_dim=3)
    assert model.prepare_guided(guided_inputs(1, 1024)[2]) is None


@torch.inference_mode()
def test_every_block_runs_once_a_step_on_fewer_tokens() -> None:
    """Streaming fetches weights at each call of a block, and the point of it all is the number of tokens."""
    model = denoiser()
    seen: list[tuple[int, ...]] = []
    for block in model.double_blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape[1], args[1].shape[1])))
    for block in model.single_blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append((args[0].shape[1],)))
    latents, time, condition = guided_inputs(1)
    sampling.guided(model, model.prepare_guided(condition), 5.0)(latents, time)
    assert seen == [(2 * LATENTS, TOKENS + 1)] * 2 + [(2 * LATENTS + TOKENS + 1,)] * 3


def test_tokens_that_differ_are_left_as_they_are() -> None:
    """Decided from the values: nothing else says what a conditioner gives for 'no picture'."""
    _, _, condition = guided_inputs(2)
    tokens = condition["main"]
    assert halves_of(tokens) is not None
    tokens[2:] = torch.randn(2, 1, 12)  # another one for every picture
    assert halves_of(tokens) is not None
    tokens[3, 5, 2] += 1e-3
    assert halves_of(tokens) is None and denoiser().prepare_guided(condition) is None
    tokens[2:] = torch.nan
    assert halves_of(tokens) is None


# ---- in the pipeline -----------------------------------------------------------------------------------------------


def sample(pipe: Any, **options: Any) -> tuple[Tensor, dict[str, bool]]:
    """(latents, what the report says of the techniques)."""
    defaults: dict[str, Any] = {"image": toys.picture(), "num_inference_steps": 4, "seed": 1, "output_type": "latent"}
    with recording() as run:
        latents = pipe(**{**defaults, **options})
    return latents, {decision.technique: decision.applied for decision in run.stages[-1].decisions}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cfg_split": True},
        {"guidance_scale": 1.0},
        {"image": [toys.picture(), toys.picture(64)], "seed": [1, 2]},
        {"callback": lambda *_: None, "callback_steps": 2},
    ],
    ids=["plain", "split", "scale 1", "two pictures", "callback"],
)
def test_latents_are_the_same_and_the_report_says_how(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = toys.pipeline()
    found, techniques = sample(pipe, **options)
    assert techniques[sampling.ONE_TOKEN] is True
    monkeypatch.delattr(Hunyuan3DDiT, "prepare_guided")
    expected, techniques = sample(pipe, **options)
    assert techniques[sampling.ONE_TOKEN] is False
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-5)


def test_several_views_are_one_token_too(monkeypatch: pytest.MonkeyPatch) -> None:
    views = {"front": toys.picture(), "left": toys.picture(64)}
    pipe = toys.pipeline(views=True)
    found, techniques = sample(pipe, image=views)
    assert techniques[sampling.ONE_TOKEN] is True
    monkeypatch.delattr(Hunyuan3DDiT, "prepare_guided")
    torch.testing.assert_close(found, sample(pipe, image=views)[0], rtol=1e-4, atol=5e-5)


def test_nothing_is_said_without_guidance() -> None:
    assert sampling.ONE_TOKEN not in sample(toys.pipeline(), guidance_scale=-1)[1]
    assert sampling.ONE_TOKEN not in sample(toys.pipeline(distilled=True))[1]


def test_a_conditioner_with_other_words_for_no_picture_keeps_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = toys.pipeline()
    monkeypatch.setattr(
        pipe.conditioner, "unconditional_embedding", lambda batch, **_: {"main": torch.ones(batch, 10, 24).cumsum(1)}
    )
    latents, techniques = sample(pipe)
    assert techniques[sampling.ONE_TOKEN] is False and torch.isfinite(latents).all()
