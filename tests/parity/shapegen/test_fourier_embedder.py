"""The Fourier embedding of coordinates, against the reference."""

from pathlib import Path

import pytest
import torch

from hy3dgen.shapegen.models.autoencoders.attention_blocks import FourierEmbedder
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("shapegen", "fourier_embedder"), ids=lambda p: p.stem)
def test_fourier_embedder(path: Path) -> None:
    vector = vectors.load(path)
    for number, case in enumerate(vector.config["cases"]):
        embedder = FourierEmbedder(**case["kwargs"])
        assert embedder.out_dim == case["out_dim"]
        expected = vector.outputs[f"case{number}.embed"]
        torch.testing.assert_close(embedder(vector.inputs[f"case{number}.x"]), expected, rtol=0, atol=5e-5)
        torch.testing.assert_close(embedder.frequencies, vector.outputs[f"case{number}.frequencies"], rtol=1e-6, atol=0)
