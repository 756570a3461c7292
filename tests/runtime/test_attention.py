"""Every attention back end agrees with plain attention; choosing one never fails silently."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hy3dgen.errors import MissingExtraError, UsageError
from hy3dgen.runtime import attention
from hy3dgen.runtime.attention import door, flash, optional, sage, sdpa, sliced, xformers

CPU = torch.device("cpu")


def plain(q, k, v, mask=None):
    scores = q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(-1) @ v.double()).to(q.dtype)


def draw(shape_q, num_keys, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch, heads, _, width = shape_q
    q = torch.randn(shape_q, generator=generator)
    k, v = torch.randn(2, batch, heads, num_keys, width, generator=generator)
    return q, k, v


MASKS = {
    "none": lambda n, m: None,
    "bool": lambda n, m: torch.arange(n * m).view(n, m) % 3 != 1,
    "row": lambda n, m: torch.arange(m)[None] < max(1, m - 2),
    "added": lambda n, m: torch.linspace(-2, 2, n * m).view(1, 1, n, m),
}


@pytest.mark.parametrize("backend", [sdpa, sliced], ids=["sdpa", "sliced"])
@pytest.mark.parametrize("mask", MASKS)
def test_agrees_with_plain_attention(backend, mask, monkeypatch):
    monkeypatch.setattr(sliced, "SCORE_BYTES", 2000)  # several slices
    q, k, v = draw((2, 3, 37, 8), 11)
    given_mask = MASKS[mask](37, 11)
    torch.testing.assert_close(
        backend.attend(q, k, v, mask=given_mask), plain(q, k, v, given_mask), atol=1e-5, rtol=1e-5
    )


@settings(deadline=None, max_examples=25)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    budget=st.integers(1, 10_000),
)
def test_slices_do_not_change_the_result(batch, heads, queries, keys, budget):
    q, k, v = draw((batch, heads, queries, 8), keys)
    before, sliced.SCORE_BYTES = sliced.SCORE_BYTES, budget
    try:
        torch.testing.assert_close(sliced.attend(q, k, v), plain(q, k, v), atol=1e-5, rtol=1e-5)
    finally:
        sliced.SCORE_BYTES = before


@pytest.mark.parametrize("mask", MASKS)
def test_xformers_is_called_as_it_wants(monkeypatch, mask):
    """Its contract: (B, N, H, D), an additive bias of full shape (B, H, N, M)."""

    def fake(q, k, v, attn_bias=None):
        assert attn_bias is None or attn_bias.shape == (q.shape[0], q.shape[2], q.shape[1], k.shape[1])
        return plain(*(part.transpose(1, 2) for part in (q, k, v)), attn_bias).transpose(1, 2)

    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = fake
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    q, k, v = draw((2, 3, 7, 8), 5)
    given_mask = MASKS[mask](7, 5)
    torch.testing.assert_close(
        xformers.attend(q, k, v, mask=given_mask), plain(q, k, v, given_mask), atol=1e-5, rtol=1e-5
    )


def test_flash_and_sage_are_called_as_they_want(monkeypatch):
    """flash-attn: (B, N, H, D); sageattention: (B, H, N, D) with layout 'HND'; masks and float32 go to SDPA."""
    calls = []

    def flash_attn_func(q, k, v):
        calls.append("flash")
        return plain(*(part.transpose(1, 2) for part in (q, k, v))).transpose(1, 2)

    def sageattn(q, k, v, tensor_layout, is_causal):
        assert tensor_layout == "HND"
        assert not is_causal
        calls.append("sage")
        return plain(q, k, v)

    for name, function in (("flash_attn", flash_attn_func), ("sageattention", sageattn)):
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)
    q, k, v = (part.half() for part in draw((1, 2, 6, 64), 5))
    for backend in (flash, sage):
        torch.testing.assert_close(backend.attend(q, k, v), plain(q, k, v), atol=2e-3, rtol=2e-3)
        mask = MASKS["bool"](6, 5)
        torch.testing.assert_close(backend.attend(q, k, v, mask=mask), plain(q, k, v, mask), atol=2e-3, rtol=2e-3)
        backend.attend(q.float(), k.float(), v.float())
    assert calls == ["flash", "sage"]


def test_ready_kernels_give_the_same_and_leave_the_choice_as_it_was():
    q, k, v = draw((1, 2, 9, 8), 5)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with attention.ready_kernels():
        assert not torch.backends.cuda.cudnn_sdp_enabled() and torch.backends.cuda.flash_sdp_enabled()
        torch.testing.assert_close(attention.attend(q, k, v), plain(q, k, v), atol=1e-5, rtol=1e-5)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_only_large_attention_is_planned_where_kernels_are_to_be_ready(monkeypatch):
    planned = []

    def spy(q, k, v, attn_mask=None):
        planned.append(torch.backends.cuda.cudnn_sdp_enabled())
        return v

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", spy)
    monkeypatch.setattr(sdpa, "PLANNING_PAYS", 2 * 3 * 10 * 20 * 8)
    for queries in (9, 10):
        q, k, v = draw((2, 3, queries, 8), 20)
        with attention.ready_kernels():
            attention.attend(q, k, v)
        attention.attend(q, k, v)
    usual = torch.backends.cuda.cudnn_sdp_enabled()
    assert planned == [False, usual, True, usual]


def test_auto_is_sdpa_on_the_cpu(monkeypatch):
    monkeypatch.delenv(door.ENVIRONMENT, raising=False)
    assert attention.resolve_backend(None, CPU) == "sdpa"
    assert attention.resolve_backend("auto", CPU) == "sdpa"


def test_xformers_without_a_kernel_is_not_taken(monkeypatch):
    """0.0.35 is one wheel for all, built for torch 2.10: under 2.11 it imports, warns, and has no operator."""

    def none(q, k, v, attn_bias=None):
        raise NotImplementedError("No operator found for `memory_efficient_attention_forward` with inputs:\n query")

    ops = types.ModuleType("xformers.ops")
    ops.memory_efficient_attention = none
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)
    monkeypatch.setattr(xformers, "CUDA", "cpu")
    for cached in (optional.reason_not_importable, xformers._reason_it_fails):
        cached.cache_clear()
    try:
        assert attention.resolve_backend("auto", CPU) == "sdpa"
        with pytest.raises(MissingExtraError, match=r"a build of xformers for torch .* is needed: No operator found"):
            attention.resolve_backend("xformers", CPU)
    finally:
        for cached in (optional.reason_not_importable, xformers._reason_it_fails):
            cached.cache_clear()


def test_auto_prefers_xformers_where_it_works(monkeypatch):
    monkeypatch.setattr(xformers, "unavailable", lambda device: None)
    assert attention.resolve_backend("auto", CPU) == "xformers"


def test_environment_and_context_choose(monkeypatch):
    """The innermost choice wins: the context over the environment."""
    monkeypatch.setenv(door.ENVIRONMENT, "sliced")
    assert attention.resolve_backend(None, CPU) == "sliced"
    with attention.use_backend("sdpa"):
        assert attention.resolve_backend(None, CPU) == "sdpa"
        with attention.use_backend(None):
            assert attention.resolve_backend(None, CPU) == "sdpa"
    assert attention.resolve_backend(None, CPU) == "sliced"


def test_choice_reaches_the_kernel(monkeypatch):
    q, k, v = draw((1, 1, 3, 4), 3)
    monkeypatch.setattr(sliced, "attend", lambda *args, **kwargs: "sliced was here")
    with attention.use_backend("sliced"):
        assert attention.attend(q, k, v) == "sliced was here"


@pytest.mark.parametrize("name", ["xformers", "sage", "flash"])
def test_what_is_asked_for_and_missing_is_said(name):
    with pytest.raises(MissingExtraError, match="CUDA devices only"):
        attention.resolve_backend(name, CPU)
    assert attention.availability(CPU)[name]


def test_missing_package_names_its_command():
    assert "pip install nothing" in optional.reason_not_importable("no_such_package_here", "pip install nothing")


def test_unknown_name_is_refused(monkeypatch):
    with pytest.raises(UsageError, match="magic"):
        attention.resolve_backend("magic", CPU)
    monkeypatch.setenv(door.ENVIRONMENT, "magic")
    with pytest.raises(UsageError, match="magic"):
        attention.resolve_backend(None, CPU)
    with pytest.raises(UsageError, match="magic"), attention.use_backend("magic"):
        pass
