"""Streaming gives the same bits with two units on the device, and leaves no trace behind."""

import gc

import pytest
import torch
from torch import nn

from hy3dgen.runtime import offload
from hy3dgen.runtime.offload import attach, attached, find_units, named_tensors, pinned_pieces
from tests.runtime.memories import CountedMemory

CPU = torch.device("cpu")
WIDTH = 32


class Block(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x: torch.Tensor, *, bag: dict | None = None) -> torch.Tensor:
        if bag is not None:
            bag[len(bag)] = x
        return x + self.scale * self.mlp(self.norm(x))


class Network(nn.Module):
    """A front that another method enters, blocks in a list, and a back."""

    def __init__(self, blocks: int = 5) -> None:
        super().__init__()
        self.front = nn.Linear(8, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.back = nn.Linear(WIDTH, 8)
        self.position = nn.Parameter(torch.randn(1, 1, WIDTH))

    def prepare(self, x: torch.Tensor) -> torch.Tensor:
        return self.front(x) + self.position

    def forward(self, x: torch.Tensor, order: list[int] | None = None, bag: dict | None = None) -> torch.Tensor:
        x = self.prepare(x)
        for i in order if order is not None else range(len(self.blocks)):
            x = self.blocks[i](x, bag=bag)
        return self.back(x)


@pytest.fixture
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network().requires_grad_(False).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))


def sizes(network: nn.Module) -> tuple[int, int, int]:
    """(all bytes, bytes of one block, bytes beside the blocks)."""
    total = sum(tensor.nbytes for tensor in named_tensors(network).values())
    block = sum(tensor.nbytes for tensor in named_tensors(network.blocks[0]).values())
    return total, block, total - block * len(network.blocks)


@pytest.mark.parametrize("placement", ["resident", "staged", "streamed", "disk"])
def test_the_result_is_the_same_bit_for_bit(network: Network, x: torch.Tensor, placement: str) -> None:
    plain = network(x)
    with torch.inference_mode(), attached(network, placement, CPU, memory=CountedMemory()):
        for _ in range(3):
            assert torch.equal(network(x), plain)
    assert torch.equal(network(x), plain)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [0, 0, 0], [2, 0, 2, 1], []])
def test_any_order_of_blocks_is_right(network: Network, x: torch.Tensor, order: list[int]) -> None:
    plain = [network(x), network(x, order), network(x)]
    with attached(network, "streamed", CPU, memory=CountedMemory()):
        assert all(torch.equal(a, b) for a, b in zip([network(x), network(x, order), network(x)], plain, strict=True))


def test_streaming_holds_the_rest_and_two_blocks(network: Network, x: torch.Tensor) -> None:
    total, block, rest = sizes(network)
    memory = CountedMemory()
    with attached(network, "streamed", CPU, memory=memory):
        network(x)
        padding = 256 * 2 * len(list(network.blocks[0].parameters())) + 512
        assert rest + 2 * block <= memory.peak <= rest + 2 * block + padding < total
    gc.collect()
    assert memory.held == 0


def test_a_whole_network_takes_its_size_and_gives_it_back(network: Network, x: torch.Tensor) -> None:
    memory = CountedMemory()
    with attached(network, "staged", CPU, memory=memory):
        assert memory.held == sizes(network)[0]
    gc.collect()
    assert memory.held == 0


def test_other_methods_find_their_weights(network: Network, x: torch.Tensor) -> None:
    with attached(network, "streamed", CPU, memory=CountedMemory()):
        assert network.prepare(x).shape == (2, 7, WIDTH)


def test_a_dictionary_that_blocks_fill_in_place_is_filled(network: Network, x: torch.Tensor) -> None:
    bag: dict = {}
    with attached(network, "streamed", CPU, memory=CountedMemory()):
        network(x, bag=bag)
    assert sorted(bag) == [0, 1, 2, 3, 4]


def test_reading_weights_of_an_absent_unit_fails_at_once(network: Network, x: torch.Tensor) -> None:
    with attached(network, "streamed", CPU, memory=CountedMemory()):
        assert network.blocks[2].mlp[0].weight.is_meta
        with pytest.raises((NotImplementedError, RuntimeError)):
            float(network.blocks[2].mlp[0].weight.sum())


def test_detaching_leaves_the_same_objects_and_no_hooks(network: Network) -> None:
    before = {name: id(tensor) for name, tensor in named_tensors(network).items()}
    handle = attach(network, "streamed", CPU, memory=CountedMemory())
    handle.detach()
    handle.detach()
    assert {name: id(tensor) for name, tensor in named_tensors(network).items()} == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


@pytest.mark.parametrize("placement", ["staged", "streamed"])
def test_running_out_of_memory_while_attaching_changes_nothing(
    network: Network, x: torch.Tensor, placement: str
) -> None:
    plain, before = network(x), {name: id(tensor) for name, tensor in named_tensors(network).items()}
    memory = CountedMemory(limit_bytes=sizes(network)[2] + 100)
    with pytest.raises(torch.OutOfMemoryError):
        attach(network, placement, CPU, memory=memory)
    assert {name: id(tensor) for name, tensor in named_tensors(network).items()} == before
    assert torch.equal(network(x), plain)


def test_an_exception_inside_a_block_does_not_spoil_the_next_call(network: Network, x: torch.Tensor) -> None:
    plain = network(x)

    def fail(module: nn.Module, given: object) -> None:
        raise ValueError("stop")

    with attached(network, "streamed", CPU, memory=CountedMemory()):
        hook = network.blocks[2].mlp[1].register_forward_pre_hook(fail)
        with pytest.raises(ValueError, match="stop"):
            network(x)
        hook.remove()
        assert torch.equal(network(x), plain)


def test_shared_weights_stay_shared(network: Network, x: torch.Tensor) -> None:
    network.blocks[1].mlp[0].weight = network.blocks[1].mlp[0].weight
    network.blocks[3].norm = network.blocks[3].norm
    network.blocks[0].mlp[2].bias = network.blocks[0].norm.bias
    plain = network(x)
    for placement in ("staged", "streamed"):
        with attached(network, placement, CPU, memory=CountedMemory()):
            assert torch.equal(network(x), plain)
    assert network.blocks[0].mlp[2].bias is network.blocks[0].norm.bias


def test_units_are_found_by_structure(network: Network) -> None:
    assert list(find_units(network)) == [f"blocks.{i}" for i in range(5)]
    assert find_units(nn.Linear(3, 3)) == {}


def test_too_large_units_are_taken_apart_and_lists_are_none(network: Network) -> None:
    stack = nn.ModuleList([nn.ModuleList([Block(), Block()]), nn.ModuleList([Block()])])
    outer = nn.ModuleDict({"stages": stack})
    parts = [f"stages.{i}.{part}" for i in ("0.0", "0.1", "1.0") for part in ("norm", "mlp.0", "mlp.2")]
    assert list(find_units(outer, limit_bytes=1)) == parts
    assert list(find_units(outer)) == ["stages.0.0", "stages.0.1", "stages.1.0"]


def test_multi_head_attention_is_never_taken_apart() -> None:
    layers = nn.ModuleList([nn.ModuleDict({"parts": nn.ModuleList([nn.MultiheadAttention(8, 2)])})])
    assert list(find_units(nn.ModuleDict({"layers": layers}), limit_bytes=1)) == ["layers.0.parts.0"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 75_559_424, 142_672_896, 3 << 20])
def test_pinned_blocks_are_powers_of_two_with_little_waste(size: int) -> None:
    pieces = pinned_pieces(size)
    assert all(piece & (piece - 1) == 0 for piece in pieces)
    assert size <= sum(pieces) < size + (1 << 20) + 1


def test_units_in_pinned_memory_give_the_same_bits(
    network: Network, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ordinary memory stands for pinned memory, which only exists beside an accelerator."""
    plain, empty = network(x), torch.empty

    def pinned(*args: object, pin_memory: bool = False, **kwargs: object) -> torch.Tensor:
        return empty(*args, **kwargs)

    monkeypatch.setattr(offload, "MIB", 1 << 10)  # several blocks for each of these small units
    monkeypatch.setattr(offload.torch, "empty", pinned)
    other = network(x, [3, 1, 4])
    handle = attach(network, "streamed", CPU, memory=CountedMemory())
    assert handle._pinned
    for _ in range(2):
        assert torch.equal(network(x), plain)
    assert torch.equal(network(x, [3, 1, 4]), other)
    handle.detach()
    assert torch.equal(network(x), plain)
