"""The fast float32 products give what plain linear layers give, and leave no trace."""

import pytest
import torch
from torch import nn

from hy3dgen.runtime.linear import available, fast_linears


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 128), nn.GELU(), nn.Linear(128, 96, bias=False), nn.Linear(96, 3)).eval()


@torch.inference_mode()
def test_same_values_and_undone(network: nn.Sequential) -> None:
    x = torch.randn(2, 33, 96)
    expected = network(x)
    with fast_linears(network) as changed:
        assert changed == (2 if available() else 0)  # the last layer is too small to gain
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=2e-6)
        with fast_linears(network) as again:
            assert again == 0
        torch.testing.assert_close(network(x[:, :0]), expected[:, :0])
    assert all("forward" not in layer.__dict__ for layer in network)
    assert torch.equal(network(x), expected)


def test_left_alone(network: nn.Sequential) -> None:
    with fast_linears(nn.Linear(96, 128, dtype=torch.bfloat16), nn.Linear(96, 128, device="meta")) as changed:
        assert changed == 0
    network[0].forward = network[0].forward  # as an offloading hook leaves it
    with fast_linears(network[0]) as changed:
        assert changed == 0


def test_gradients_still_flow(network: nn.Sequential) -> None:
    x = torch.randn(4, 96, requires_grad=True)
    with fast_linears(network[0]):
        network[0](x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


def test_undone_after_an_error(network: nn.Sequential) -> None:
    with pytest.raises(ZeroDivisionError), fast_linears(network):
        _ = 1 / 0
    assert "forward" not in network[0].__dict__
