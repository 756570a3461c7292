"""What only a GPU can tell of the engine: streams, pinned memory, the allocator's limit, memory given back."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.graphs import replayed
from hy3dgen.runtime.ladder import is_out_of_memory, run_with_ladder
from hy3dgen.runtime.machine import enforce, let_go, machine_of
from hy3dgen.runtime.memory import MIB, release_cached
from hy3dgen.runtime.offload import attach, attached, named_tensors
from hy3dgen.runtime.plan import Phase, Plan, StageCost, Variant, make_plan
from hy3dgen.runtime.stages import stage
from hy3dgen.runtime.units import size_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
WIDTH, BLOCKS = 2048, 12


class Stack(nn.Module):
    """Blocks heavy enough that a copy and a computation overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(64, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(BLOCKS)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.front(x)
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.fixture(scope="module")
def device() -> torch.device:
    return torch.device("cuda")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(2)
    return Stack().half().requires_grad_(False).eval()


def bytes_of(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in named_tensors(network).values())


@pytest.mark.parametrize("placement", ["staged", "streamed", "disk"])
def test_equal_bits_over_many_steps(network: nn.Module, device: torch.device, placement: str) -> None:
    """Twenty passes without a pause: a copy that came too late or too early would show."""
    steps = [torch.randn(4, 512, 64, device=device, dtype=torch.float16) for _ in range(20)]
    with torch.inference_mode(), attached(network, "resident", device):
        wanted = [network(x) for x in steps]
    with torch.inference_mode(), attached(network, placement, device):  # type: ignore[arg-type]
        found = [network(x) for x in steps]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_streaming_reserves_two_units_and_the_rest(network: nn.Module, device: torch.device) -> None:
    release_cached(device)
    before = torch.cuda.memory_allocated(device)
    size = size_of({name: tensor.nbytes for name, tensor in named_tensors(network).items()})
    handle = attach(network, "streamed", device)
    held = torch.cuda.memory_allocated(device) - before
    handle.detach()
    assert held <= size.rest_bytes + 2 * size.largest_unit_bytes + MIB < bytes_of(network)


def test_reserved_memory_returns_and_ten_runs_do_not_grow(network: nn.Module, device: torch.device) -> None:
    x = torch.randn(4, 512, 64, device=device, dtype=torch.float16)
    torch.cuda.synchronize()
    ends = []
    for _ in range(11):
        with torch.inference_mode(), attached(network, "streamed", device):
            network(x)
        gc.collect()
        release_cached(device)
        ends.append(torch.cuda.memory_reserved(device))
    assert max(ends[1:]) - ends[0] <= 16 * MIB


def plan_for(network: nn.Module, device: torch.device) -> Plan:
    size = size_of({name: tensor.nbytes for name, tensor in named_tensors(network).items()})
    costs = [StageCost("denoise", (Variant((Phase("model", size, 64 * MIB, 4, 0.001),)),))]
    machine = machine_of(device)
    return make_plan(machine.total_bytes, machine, costs)


def test_the_hard_stop_makes_a_stage_leaner(network: nn.Module, device: torch.device) -> None:
    """A ceiling under the network's size: the whole network does not fit, streaming does."""
    machine, x = machine_of(device), torch.randn(1, 64, 64, device=device, dtype=torch.float16)
    release_cached(device)
    reserved = torch.cuda.memory_reserved(device)
    engine = Engine(plan_for(network, device), device)
    try:
        enforce(machine.context_bytes + reserved + bytes_of(network) // 2, machine, device)

        def run(_: object) -> torch.Tensor:
            with torch.inference_mode(), engine.using("model", network):
                return network(x)

        with stage("denoise") as record:
            engine.attempts("denoise", run)
        assert engine.plan.stage("denoise").placement == "streamed"
        assert "leaner plan" in record.warnings[0]
    finally:
        let_go(device)


def test_a_real_out_of_memory_error_is_known(device: torch.device) -> None:
    huge = machine_of(device).total_bytes * 2

    def run(size: int) -> int:
        return len(torch.empty(size, dtype=torch.uint8, device=device))

    with pytest.raises(RuntimeError) as caught:
        run(huge)
    assert is_out_of_memory(caught.value)
    del caught
    assert run_with_ladder("denoise", [huge, 10], run, device=device) == 10


@pytest.mark.parametrize("placement", ["staged", "streamed", "disk"])
def test_a_recorded_step_gives_equal_bits(network: nn.Module, device: torch.device, placement: str) -> None:
    """The copies of streamed weights are part of the recording; from pageable memory there is none."""
    inputs = [torch.randn(4, 512, 64, device=device, dtype=torch.float16) for _ in range(12)]
    with torch.inference_mode(), attached(network, "resident", device):
        wanted = [network(x) for x in inputs]
    with (
        torch.inference_mode(),
        attached(network, placement, device),  # type: ignore[arg-type]
        replayed(network, network, device, len(inputs)) as step,
    ):
        found = [step(x) for x in inputs]
        assert getattr(step, "is_recorded", False) == (placement != "disk")
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_a_step_that_cannot_be_recorded_runs_as_it_is(device: torch.device) -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return x * float(x.sum())  # waits for the device

    network, x = nn.Identity(), torch.ones(3, device=device)
    with replayed(step, network, device, 20) as run:
        assert [run(x).tolist() for _ in range(6)] == [[3.0, 3.0, 3.0]] * 6
