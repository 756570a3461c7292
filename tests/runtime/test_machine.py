"""What --vram means, which machines are told apart, and the settings that must come before CUDA."""

import dataclasses

import pytest

from hy3dgen.errors import UsageError
from hy3dgen.runtime import machine as machines
from hy3dgen.runtime.machine import EXPANDABLE, allowed_fraction, ceiling_bytes, make_machine, prepare_allocator
from hy3dgen.runtime.plan import GIB

CARD = make_machine("cuda", 8 * GIB, 6 * GIB, "desktop", 16 * GIB, context_bytes=GIB // 2)


def test_vram_in_gib_max_and_auto() -> None:
    assert ceiling_bytes("2", CARD) == 2 * GIB
    assert ceiling_bytes("1.5", CARD) == 3 * GIB // 2
    assert ceiling_bytes("max", CARD) == 8 * GIB
    auto = ceiling_bytes("auto", CARD)
    assert 6 * GIB < auto < 6 * GIB + CARD.context_bytes


@pytest.mark.parametrize("words", ["0", "-1", "much", "nan", "inf", "9", ""])
def test_a_ceiling_that_makes_no_sense_is_a_usage_error(words: str) -> None:
    with pytest.raises(UsageError, match="--vram"):
        ceiling_bytes(words, CARD)


def test_on_mps_the_recommended_maximum_is_the_cap() -> None:
    assert ceiling_bytes("64", dataclasses.replace(CARD, kind="mps")) == 8 * GIB


def test_the_hard_stop_leaves_the_context_out() -> None:
    assert allowed_fraction(2 * GIB, CARD) == pytest.approx(1.5 / 8)
    assert 0 < allowed_fraction(0, CARD) < 0.01
    assert allowed_fraction(100 * GIB, CARD) == 1.0


@pytest.mark.parametrize(
    ("name", "speed"),
    [
        ("NVIDIA H200 (cuda:0)", "datacentre"),
        ("NVIDIA A100-SXM4-80GB (cuda:0)", "datacentre"),
        ("NVIDIA GeForce RTX 3060 (cuda:0)", "desktop"),
        ("NVIDIA GeForce RTX 4060 Laptop GPU (cuda:0)", "laptop"),
        ("Apple GPU (mps)", "laptop"),
    ],
)
def test_speed_classes(name: str, speed: str) -> None:
    assert machines.speed_of(name) == speed


def test_expandable_segments_are_asked_for_once_and_never_over_the_users_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machines.sys, "platform", "linux")
    settings: dict[str, str] = {}
    assert prepare_allocator(settings)
    assert settings == {"PYTORCH_CUDA_ALLOC_CONF": EXPANDABLE}
    assert not prepare_allocator(settings)
    own = {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}
    assert not prepare_allocator(own)
    assert own == {"PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}


def test_nothing_is_set_once_cuda_runs_or_where_torch_has_no_such_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines.sys, "platform", "win32")
    assert not prepare_allocator({})
    monkeypatch.setattr(machines.sys, "platform", "linux")
    monkeypatch.setattr(machines.torch.cuda, "is_initialized", lambda: True)
    assert not prepare_allocator({})


def test_a_limit_is_set_for_the_numbered_device_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch refuses plain 'cuda' here; and a worker's next job must not run under the last one's ceiling."""
    import torch

    limits: list[tuple[float, object]] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, at: limits.append((share, at)))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    machines.enforce(4 * GIB, CARD, torch.device("cuda"))
    machines.let_go(torch.device("cuda"))
    machines.let_go(torch.device("cuda", 1))
    machines.let_go(torch.device("cpu"))
    assert limits == [(allowed_fraction(4 * GIB, CARD), 2), (1.0, 2), (1.0, 1)]
