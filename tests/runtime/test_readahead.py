"""Pages of mapped weights, asked for before they are needed."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hy3dgen.runtime import readahead
from hy3dgen.runtime.readahead import ReadAhead, ranges, reading_ahead
from hy3dgen.weights.load import build_without_memory, load_weights, open_weights

PAGE = mmap.PAGESIZE
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def mapped(folder: Path, layers: int = 3, width: int = 512) -> nn.Module:
    """A network whose weights are in a mapped file."""
    network = nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])
    path = folder / "weights.safetensors"
    save_file({name: tensor.detach() for name, tensor in network.state_dict().items()}, path)
    empty = build_without_memory(lambda: nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)]))
    with open_weights(path) as source:
        return load_weights(empty, source)


@pytest.fixture
def advised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked of the system, on Linux."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(readahead.sys, "platform", "linux")
    monkeypatch.setattr(readahead, "_advise", lambda address, size: asked.append((address, size)) or True)
    return asked


def test_tensors_that_follow_one_another_are_one_range_of_whole_pages() -> None:
    whole = torch.zeros(64 * PAGE, dtype=torch.uint8)
    parts = [whole[PAGE : PAGE + 10], whole[2 * PAGE : 5 * PAGE], whole[40 * PAGE : 41 * PAGE], whole[:0]]
    [(start, size)] = ranges([parts], 1 << 40)
    assert start % PAGE == size % PAGE == 0
    assert start <= parts[0].data_ptr() and start + size >= parts[2].data_ptr() + PAGE
    assert start + PAGE > parts[0].data_ptr() and start + size <= whole.data_ptr() + 42 * PAGE


def test_far_tensors_and_networks_keep_their_order_and_the_limit_holds() -> None:
    whole = torch.zeros(8 << 20, dtype=torch.uint8)
    late, early = whole[-PAGE:], whole[:PAGE]
    first, second = ranges([[late], [early]], 1 << 40)
    assert first[0] > second[0], "the network that is used first is read first"
    assert ranges([[late], [early]], PAGE) == [first]
    assert ranges([[late]], 0) == ranges([], 1) == []


def test_a_mapped_network_is_asked_for_whole(tmp_path: Path, advised: list[tuple[int, int]]) -> None:
    network = mapped(tmp_path)
    reading = ReadAhead([network]).start()
    reading.wait()
    for tensor in network.parameters():
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        assert any(a <= start and end <= a + size for a, size in advised)
    assert sum(size for _, size in advised) < sum(t.nbytes for t in network.parameters()) + 4 * PAGE


def test_reading_stops_when_it_is_told(monkeypatch: pytest.MonkeyPatch, advised: list[tuple[int, int]]) -> None:
    monkeypatch.setattr(readahead, "SLICE_BYTES", PAGE)
    begun, end = threading.Event(), threading.Event()

    def advise(address: int, size: int) -> bool:
        advised.append((address, size))
        begun.set()
        return end.wait(10)

    monkeypatch.setattr(readahead, "_advise", advise)
    reading = ReadAhead([nn.Linear(512, 512)]).start()
    assert begun.wait(10)
    reading.stop()
    end.set()
    reading.wait()
    assert len(advised) == 1


def test_weights_that_are_used_in_place_are_left_alone(advised: list[tuple[int, int]]) -> None:
    with reading_ahead([nn.Linear(64, 64)], CPU):
        pass
    assert advised == []
    with reading_ahead([nn.Linear(64, 64)], GPU):
        pass
    with reading_ahead([nn.Linear(64, 64, device="meta")], GPU):
        pass


def test_a_system_without_such_advice_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = mapped(tmp_path)
    for answer in (None, lambda address, size, advice: -1):
        monkeypatch.setattr(readahead, "_madvise", lambda answer=answer: answer)
        assert not readahead._advise(0, 1)
        reading = ReadAhead([network]).start()
        reading.wait()


def test_the_real_advice_leaves_weights_as_they_are(tmp_path: Path) -> None:
    network = mapped(tmp_path)
    before = [tensor.clone() for tensor in network.parameters()]
    reading = ReadAhead([network]).start()
    reading.wait()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
