"""What surrounds the paint network: resizing, call arguments, random streams, against a recorded call."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.parity.vectors import files, load
from tests.texgen.stand_ins import painter_of


class StandIn:
    """Remembers what it was called with."""

    is_turbo = False

    def __call__(self, images: list[Image.Image], **kwargs: Any) -> Any:
        self.given = {"image": images, **kwargs}
        return SimpleNamespace(images=["the pipeline's list"])


@pytest.mark.parametrize("path", files("texgen", "multiview_glue"), ids=lambda p: p.stem)
def test_multiview_glue(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = load(path)
    config, expected = vector.config, vector.config["call"]
    stand_in = StandIn()
    painter = painter_of(stand_in, size_px=expected["width"], steps=expected["num_inference_steps"])
    monkeypatch.setattr(painter, "_guarded", lambda paint, record: paint())
    names = sorted(name for name in vector.inputs if name.startswith("image_"))
    controls = [Image.fromarray(picture) for picture in vector.inputs["control_images"].numpy()]
    before, states = list(controls), (random.getstate(), torch.get_rng_state())
    images = [Image.fromarray(vector.inputs[name].numpy()) for name in names]
    assert painter(images, controls, expected["camera_info_gen"][0]) == ["the pipeline's list"]
    assert all(a is b for a, b in zip(controls, before, strict=True)), "the caller's list was changed"
    assert states[0] == random.getstate() and torch.equal(states[1], torch.get_rng_state())

    given = stand_in.given
    for name in ("camera_info_gen", "camera_info_ref", "height", "width", "num_in_batch", "num_inference_steps"):
        assert given[name] == expected[name], name
    assert "guidance_scale" not in given
    pictures = {f"image_{i}": picture for i, picture in enumerate(given["image"])}
    for kind in ("normal", "position"):
        pictures |= {f"{kind}_{i}": picture for i, picture in enumerate(given[f"{kind}_imgs"][0])}
    assert {f"size.{name}" for name in pictures} == {key for key in config if key.startswith("size.")}
    for name, picture in pictures.items():
        pixels = np.array(picture)
        assert list(picture.size) == config[f"size.{name}"]
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == config[f"sha256.{name}"], name
    # Two streams with one seed, where the reference reseeds the process and makes a generator.
    for stream, recorded in (("generator", "generator_rand"), ("posterior_generator", "global_torch_rand")):
        assert torch.equal(torch.rand(3, generator=given[stream]), vector.outputs[recorded])
