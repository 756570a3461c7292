"""Dense grids against recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hy3dgen.shapegen.models.autoencoders import volume_decoders
from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from tests.parity.vectors import Vector, files, load


def decode(vector: Vector, call: dict[str, Any], *make: Any) -> torch.Tensor:
    """The grid of one recorded call; ``make``: arguments of the decoder's constructor."""
    vae = ShapeVAE(**vector.config["kwargs"])
    vae.load_state_dict(vector.weights)
    vae.eval()
    call = dict(call)
    name = call.pop("decoder", None) or vector.config["call"]["decoder"]
    with torch.inference_mode():
        return getattr(volume_decoders, name)(*make)(vector.inputs["features"], vae.geo_decoder, **call)


@pytest.mark.parametrize("path", files("shapegen", "volume_vanilla"), ids=lambda p: p.stem)
def test_volume_vanilla(path: Path) -> None:
    vector = load(path)
    calls = [name for name in vector.config if name.startswith("call")]
    for name in calls:
        grid = decode(vector, vector.config[name])
        want = vector.outputs["grid_logits" + name.removeprefix("call")]
        assert grid.dtype == torch.float32 and grid.device.type == "cpu"
        torch.testing.assert_close(grid, want, rtol=1e-4, atol=1e-4)
