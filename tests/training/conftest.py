"""Networks of a few thousand parameters and a handful of shapes, so that training runs in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from training.generator.draw import draw_block
from training.generator.stream import Lot, block_generator, normalised_lot
from training.networks import Config, Networks, initialise, nano_config, with_image_size

CPU = torch.device("cpu")


def micro_config() -> Config:
    config: dict[str, Any] = with_image_size(nano_config(), 28)
    config["model"]["params"] |= {
        "in_channels": 4, "context_in_dim": 32, "hidden_size": 32, "num_heads": 2, "depth": 1,
        "depth_single_blocks": 1, "axes_dim": [16],
    }  # fmt: skip
    config["vae"]["params"] |= {
        "num_latents": 16, "embed_dim": 4, "heads": 2, "width": 32, "num_decoder_layers": 1, "scale_factor": 1.0,
    }  # fmt: skip
    encoder = config["conditioner"]["params"]["main_image_encoder"]["kwargs"]["config"]
    encoder |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return config


def micro_networks(seed: int = 0) -> Networks:
    networks = Networks(micro_config(), num_points=64, encoder_layers=3)
    initialise(networks, torch.Generator().manual_seed(seed))
    return networks


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only wait for each other on tensors this small, and for minutes on a machine that others use too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def networks() -> Networks:
    return micro_networks()


@pytest.fixture(scope="session")
def lot() -> Lot:
    """A few normalised shapes of the training distribution."""
    return normalised_lot(draw_block(5, 0, 6), CPU, block_generator(CPU, 5, 0))
