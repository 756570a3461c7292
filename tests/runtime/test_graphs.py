"""Recording steps, as far as a machine without CUDA can tell; the rest is in test_offload_gpu.py."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from hy3dgen.runtime import offload, uploads
from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.graphs import replayed
from hy3dgen.runtime.memory import release_cached
from hy3dgen.runtime.offload import attached, streams_of
from hy3dgen.runtime.stages import stage
from hy3dgen.runtime.uploads import Uploader

DEVICE = torch.device(CPU)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_without_cuda_the_step_is_given_back_as_it_is() -> None:
    network = Stack()
    with replayed(network, network, DEVICE, 50) as step:
        assert step is network


def test_hooks_of_others_are_told_from_those_of_streaming() -> None:
    network = Stack().requires_grad_(False)
    assert streams_of(network) == []
    with attached(network, "streamed", DEVICE):
        found = streams_of(network)
        assert found is not None and len(found) == 1
        assert not found[0].is_recordable  # there is no stream to copy on
    handle = network.blocks[0].register_forward_hook(lambda *_: None)
    assert streams_of(network) is None
    handle.remove()


def test_a_pass_while_recording_starts_with_empty_slots_and_gives_equal_bits() -> None:
    """What a recording runs: slots forgotten before and after, no fetch of the first block for the next pass."""
    network, x = Stack().requires_grad_(False), torch.randn(2, 8)
    wanted = network(x)
    with attached(network, "streamed", DEVICE):
        [stream] = streams_of(network) or []
        for _ in range(2):
            assert torch.equal(network(x), wanted)
            with stream.recording():
                assert torch.equal(network(x), wanted)
    assert torch.equal(network(x), wanted)


def test_a_network_that_cannot_be_recorded_says_why() -> None:
    """On CUDA; its name alone is enough to see the reasons. An unrecorded step is the step itself."""
    cuda, network = torch.device("cuda"), Stack().requires_grad_(False)

    def reason(num_steps: int) -> str:
        with stage("denoise") as record, replayed(network, network, cuda, num_steps) as step:
            assert step is network
        [decision] = record.decisions
        assert not decision.applied
        return decision.why

    assert reason(2).endswith("there are 2")
    with attached(network, "streamed", DEVICE):
        assert "not pinned" in reason(50)
    handle = network.blocks[0].register_forward_hook(lambda *_: None)
    assert "hooks" in reason(50)
    handle.remove()


def test_nothing_is_copied_where_nothing_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streaming without an accelerator once copied every block into memory that it then threw away."""
    monkeypatch.setattr(offload, "can_pin", lambda: False)
    monkeypatch.setattr(offload, "register_pinned", lambda tensor: pytest.fail("copied for nothing"))
    network = Stack().requires_grad_(False)
    with attached(network, "streamed", DEVICE):
        network(torch.randn(2, 8))


def test_garbage_is_collected_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took 0.3 s and more at each of two dozen visits of networks."""
    calls: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda *_: calls.append(1) or 0)
    release_cached(DEVICE)
    assert not calls
    release_cached(DEVICE, collect=True)
    assert calls == [1]


def test_an_upload_on_the_cpu_is_a_copy() -> None:
    tensor = torch.randn(3, 5)
    copy = Uploader(DEVICE)(tensor)
    assert torch.equal(copy, tensor) and copy.data_ptr() != tensor.data_ptr()


def test_an_upload_in_pieces_fills_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of streamed weights that are not pinned; here through pieces of ordinary memory."""

    class Event:
        def synchronize(self) -> None:
            pass

    class Stream:
        def record_event(self) -> Event:
            return Event()

    monkeypatch.setattr(uploads, "PIECE_BYTES", 64)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    upload = Uploader(DEVICE)
    upload._pieces = [torch.empty(64, dtype=torch.uint8) for _ in range(2)]
    tensor, target = torch.randn(7, 11), torch.zeros(7, 11)
    upload.into(target, tensor)
    assert torch.equal(target, tensor), "a small one goes at once"
    monkeypatch.setattr(upload, "_goes_in_pieces", lambda tensor: True)
    target.zero_()
    upload.into(target, tensor)
    assert torch.equal(target, tensor) and torch.equal(upload(tensor), tensor)
