"""A plan at work on a simulated device: the right placement for each stage, and the ladder when memory runs out."""

import gc

import pytest
import torch
from torch import nn

from hy3dgen.errors import OutOfMemoryError
from hy3dgen.runtime import ladder
from hy3dgen.runtime.engine import Engine
from hy3dgen.runtime.machine import make_machine
from hy3dgen.runtime.offload import named_tensors
from hy3dgen.runtime.plan import GIB, Phase, StageCost, Variant, make_plan
from hy3dgen.runtime.stages import recording, stage
from hy3dgen.runtime.units import size_of
from tests.runtime.memories import CountedMemory

CPU = torch.device("cpu")
MACHINE = make_machine("cuda", GIB, GIB, "desktop", 64 * GIB, context_bytes=0)


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(256, 256), nn.Tanh()) for _ in range(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


@pytest.fixture
def network() -> nn.Module:
    return Stack().requires_grad_(False)


def costs(network: nn.Module) -> list[StageCost]:
    size = size_of({name: t.nbytes for name, t in named_tensors(network).items()})
    whole, half = Phase("model", size, 4096, 1, 1.0), Phase("model", size, 2048, 2, 0.6)
    return [StageCost("denoise", (Variant((whole,)), Variant((half,), cfg_split=True, levers=("halves",))))]


def test_a_rich_plan_puts_the_network_there_and_takes_it_off(network: nn.Module) -> None:
    memory = CountedMemory()
    engine = Engine(make_plan(GIB, MACHINE, costs(network)), CPU, memory=memory)
    x = torch.ones(1, 256)
    plain = network(x)
    with recording() as run, stage("denoise"), engine.using("model", network):
        assert torch.equal(network(x), plain)
        assert memory.held == sum(t.nbytes for t in named_tensors(network).values())
    gc.collect()
    assert memory.held == 0
    assert run.stages[0].levers == ["model on the device for its use only"]


def test_running_out_of_memory_goes_on_with_leaner_plans_of_this_stage(network: nn.Module) -> None:
    total = sum(t.nbytes for t in named_tensors(network).values())
    memory = CountedMemory(limit_bytes=total // 2)
    engine = Engine(make_plan(GIB, MACHINE, costs(network)), CPU, memory=memory)
    heard: list = []
    engine.changed.append(lambda plan: heard.append(plan.stage("denoise").placement))
    plain = network(torch.ones(1, 256))
    tried: list = []

    def run(plan) -> torch.Tensor:
        tried.append((plan.placement, plan.cfg_split))
        with engine.using("model", network):
            return network(torch.ones(1, 256))

    with recording() as recorded, stage("denoise"):
        assert torch.equal(engine.attempts("denoise", run), plain)
    assert tried[0][0] in ("resident", "staged")
    assert tried[-1][0] == "streamed"
    assert heard[-1] == "streamed"
    assert "leaner plan" in recorded.stages[0].warnings[0]
    gc.collect()
    assert memory.held == 0


def test_the_leanest_plan_failing_is_said(network: nn.Module) -> None:
    engine = Engine(make_plan(GIB, MACHINE, costs(network)), CPU, memory=CountedMemory(limit_bytes=10))

    def run(plan) -> None:
        with engine.using("model", network):
            pass

    with stage("denoise"), pytest.raises(OutOfMemoryError, match="denoise ran out of device memory on its leanest"):
        engine.attempts("denoise", run)


def test_other_errors_pass_through_at_once() -> None:
    calls: list[int] = []

    def run(attempt: int) -> None:
        calls.append(attempt)
        raise ValueError("no memory problem")

    with pytest.raises(ValueError, match="no memory problem"):
        ladder.run_with_ladder("denoise", [1, 2, 3], run, device=CPU)
    assert calls == [1]


def test_what_a_failed_attempt_held_is_gone_before_the_next() -> None:
    memory = CountedMemory(limit_bytes=1000)

    def run(size: int) -> int:
        held = memory.bytes(size)
        if size > 500:
            memory.bytes(600)  # does not fit beside it
        return len(held)

    said: list[str] = []
    assert ladder.run_with_ladder("decode", [900, 450], run, device=CPU, warn=said.append) == 450
    assert len(said) == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert ladder.is_out_of_memory(error) is expected


def test_ten_runs_in_one_process_do_not_grow(network: nn.Module) -> None:
    memory = CountedMemory()
    engine = Engine(make_plan(GIB, MACHINE, costs(network)), CPU, memory=memory)
    ends = []
    for _ in range(10):
        with stage("denoise"), engine.using("model", network):
            network(torch.ones(1, 256))
        gc.collect()
        ends.append(memory.held)
    assert ends == [0] * 10
