"""Compiled blocks: the same results, together with streaming, and a plain run where compiling fails."""

from functools import partial

import pytest
import torch

from hy3dgen.errors import MissingExtraError
from hy3dgen.runtime import compile as compiling
from hy3dgen.runtime.offload import attached
from hy3dgen.runtime.stages import recording, stage
from tests.runtime.memories import CountedMemory
from tests.runtime.test_offload import Network

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(compiling.unavailable(CPU) is not None, reason="no C++ compiler")


@pytest.fixture
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Network(blocks=3).requires_grad_(False).eval()


def test_blocks_are_replaced_and_come_back(network: Network) -> None:
    x, traced = torch.randn(2, 5, 8), []

    def compiler(forward):
        traced.append(forward)
        return partial(forward)

    plain = network(x)
    assert compiling.compile_blocks(network, compiler=compiler) == 3
    assert compiling.compile_blocks(network, compiler=compiler) == 0
    assert compiling.is_compiled(network)
    for placement in ("staged", "streamed"):
        with attached(network, placement, CPU, memory=CountedMemory()):
            assert torch.equal(network(x), plain)
    compiling.plain_blocks(network)
    assert not compiling.is_compiled(network)
    assert len(traced) == 3


def test_a_block_that_cannot_be_compiled_runs_as_it_is(network: Network) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def compiler(forward):
        def fail(*args, **kwargs):
            raise TorchDynamoException("no working compiler")

        return fail

    x = torch.randn(2, 5, 8)
    plain = network(x)
    compiling.compile_blocks(network, compiler=compiler)
    with recording() as run, stage("denoise"):
        assert torch.equal(network(x), plain)
    assert "runs as it is (no working compiler)" in run.stages[0].warnings[0]


@needs_compiler
@pytest.mark.slow
def test_the_real_compiler_agrees_with_the_plain_network_also_streamed(
    network: Network, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiling.CACHE_NAME, str(tmp_path))
    x = torch.randn(2, 5, 8)
    plain = network(x)
    compiling.compile_blocks(network)
    with torch.inference_mode(), recording() as run, stage("denoise"):
        assert torch.allclose(network(x), plain, atol=1e-5)
        with attached(network, "streamed", CPU, memory=CountedMemory()):
            for _ in range(2):
                assert torch.allclose(network(x), plain, atol=1e-5)
    assert run.stages[0].warnings == []


def test_where_it_cannot_work_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs a C\\+\\+ compiler"):
        compiling.ensure_available(CPU)
    assert "mps" in str(compiling.unavailable(torch.device("mps")))


def test_the_cache_is_the_users_unless_they_chose_another(tmp_path) -> None:
    settings: dict[str, str] = {}
    compiling.keep_cache(tmp_path, settings)
    assert settings[compiling.CACHE_NAME].startswith(str(tmp_path))
    own = {compiling.CACHE_NAME: "/mine"}
    compiling.keep_cache(tmp_path, own)
    assert own == {compiling.CACHE_NAME: "/mine"}
