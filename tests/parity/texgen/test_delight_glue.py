"""What surrounds the delight network (erosion, conversion, statistics, compositing) against recorded pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.parity.vectors import files, load
from tests.texgen.stand_ins import remover_of


class StandIn:
    """Answers with a recorded picture and remembers what it was given."""

    def __init__(self, result: Image.Image) -> None:
        self.result, self.calls = result, []

    def __call__(self, image: Image.Image, prompt_embeds: torch.Tensor, **kwargs: Any) -> Image.Image:
        self.calls.append({"image": image, **kwargs})
        return self.result


@pytest.mark.parametrize("path", files("texgen", "delight_glue"), ids=lambda p: p.stem)
def test_delight_glue(path: Path) -> None:
    vector = load(path)
    for i, case in enumerate(vector.config["cases"]):
        stand_in = StandIn(Image.fromarray(vector.inputs[f"{i}.pipeline_result"].numpy()))
        remover = remover_of(stand_in, size_px=vector.config["size_instead_of_512"])
        given = Image.fromarray(vector.inputs[f"{i}.image"].numpy())
        assert given.mode == case["mode"]
        result = remover(given)
        (call,) = stand_in.calls
        assert call["num_inference_steps"] == case["pipeline_call"]["num_inference_steps"]
        assert str(call["generator"].initial_seed()) in case["pipeline_call"]["generator"]
        assert call["generator"].device.type == "cpu" and "cpu" in case["pipeline_call"]["generator"]
        assert np.array_equal(np.array(call["image"]), vector.outputs[f"{i}.pipeline_image"].numpy())
        expected = vector.outputs[f"{i}.image"].numpy().astype(int)
        assert result.mode == case["result_mode"]
        assert np.abs(np.array(result).astype(int) - expected).max() <= 1
