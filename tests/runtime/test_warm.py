"""Waking up libraries beside the loading of a model: in order, on CUDA only, harmless when it fails."""

from __future__ import annotations

import logging
import threading

import pytest
import torch

from hy3dgen.errors import Cancelled
from hy3dgen.runtime.stages import cancelling
from hy3dgen.runtime.warm import WarmUp, first_convolutions, first_kernels, warmed

GPU = torch.device("cuda", 0)


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that give device memory back, in their order; there is no device here."""
    calls: list[str] = []
    monkeypatch.setattr("hy3dgen.runtime.warm.synchronize", lambda device: calls.append("synchronize"))
    monkeypatch.setattr("hy3dgen.runtime.warm.release_workspaces", lambda: calls.append("workspaces"))
    monkeypatch.setattr("hy3dgen.runtime.warm.release_cached", lambda device: calls.append("cached"))
    return calls


def test_calls_run_in_order_beside_the_block_and_are_waited_for(given_back: list[str]) -> None:
    loading, seen = threading.Event(), []

    def first() -> None:
        assert loading.wait(10)
        seen.append(threading.current_thread())

    with warmed(GPU, [first, lambda: seen.append("second")]):
        loading.set()  # would never be reached if the calls ran before the block
    assert seen[0] is not threading.main_thread() and seen[1] == "second"
    assert given_back == ["synchronize", "workspaces", "cached"]


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_nothing_happens_without_cuda(device: str) -> None:
    warm_up = WarmUp(torch.device(device), [lambda: pytest.fail("was called")]).start()
    assert not warm_up.is_running
    warm_up.wait()


def test_a_failure_is_logged_and_the_rest_goes_on(caplog: pytest.LogCaptureFixture, given_back: list[str]) -> None:
    def fails() -> None:
        raise torch.OutOfMemoryError("no room")

    seen: list[int] = []
    with caplog.at_level(logging.DEBUG, "hy3dgen.runtime.warm"), warmed(GPU, [fails, lambda: seen.append(1)]):
        pass
    assert seen == [1] and given_back
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.usefixtures("given_back")
def test_a_cancelled_run_does_not_wait_and_no_further_call_begins() -> None:
    begun, end, event, seen = threading.Event(), threading.Event(), threading.Event(), []

    def slow() -> None:
        begun.set()
        assert end.wait(10)

    event.set()
    warm_up = WarmUp(GPU, [slow, lambda: seen.append("second")]).start()
    assert begun.wait(10)
    with cancelling(event), pytest.raises(Cancelled):
        warm_up.wait()
    warm_up.stop()
    end.set()
    warm_up.wait()
    assert seen == []


@pytest.mark.usefixtures("given_back")
def test_an_error_of_the_block_stops_the_calls() -> None:
    end, seen = threading.Event(), []
    with pytest.raises(ValueError, match="damaged"), warmed(GPU, [lambda: end.wait(10), lambda: seen.append(1)]):
        raise ValueError("damaged")
    end.set()
    assert seen == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_first_uses_leave_no_memory_behind() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(GPU)
    for call in (first_kernels, first_convolutions):
        call.cache_clear()
    with warmed(GPU, [lambda: first_kernels(GPU, torch.float16)]):
        pass
    assert first_convolutions.cache_info().currsize == 1, "nothing failed"
    assert torch.cuda.memory_reserved(GPU) <= before
