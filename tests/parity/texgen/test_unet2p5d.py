"""The paint network against recorded outputs: as the reference calls it, and the lean way the pipeline calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from hy3dgen.texgen.hunyuanpaint.unet.modules import Conditions, UNet2p5DConditionModel
from tests.parity.texgen.recipe import fill
from tests.parity.vectors import Vector, files, load

TOLERANCE = 1e-4
KEYS = Path(__file__).resolve().parents[2] / "data" / "parity" / "texgen" / "unet2p5d-official-keys.json"
OFFICIAL = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2, "attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024,
    "use_linear_projection": True,
}  # fmt: skip


def network(vector: Vector) -> UNet2p5DConditionModel:
    with torch.device("meta"):
        made = UNet2p5DConditionModel(UNet2DConditionModel.from_config(vector.config["unet_config"]))
    return fill(made.to_empty(device="cpu"), vector.weights, vector.config["weights_recipe"])


def text_of(vector: Vector, model: UNet2p5DConditionModel) -> torch.Tensor:
    """The text states that the file's config describes: learned, after a zero row when guidance is on."""
    learned = model.learned_text_clip_gen
    if "zeros" in vector.config["encoder_hidden_states"]:
        return torch.cat([torch.zeros_like(learned), learned])
    return learned.expand(vector.config["B"], -1, -1)


@pytest.mark.parametrize("path", files("texgen", "unet2p5d"), ids=lambda p: p.stem)
def test_unet2p5d(path: Path) -> None:
    vector = load(path)
    model, given = network(vector), vector.inputs
    bag = {k: v for k, v in given.items() if k != "sample"}
    if "mva_scale" in vector.config:
        bag["mva_scale"] = vector.config["mva_scale"]
    text, time = text_of(vector, model), vector.config["timestep"]

    features = model.encode_reference(given["ref_latents"])
    assert list(features) == vector.config["layer_names"]
    for name, feature in features.items():
        torch.testing.assert_close(feature, vector.outputs[f"condition_embed.{name}"], atol=TOLERANCE, rtol=0)

    expected = vector.outputs["sample"]
    torch.testing.assert_close(model(given["sample"], time, text, **bag)[0], expected, atol=TOLERANCE, rtol=0)

    bag.pop("ref_latents")
    again = model(given["sample"], time, text, condition_embed_dict=features, **bag)[0]
    torch.testing.assert_close(again, expected, atol=TOLERANCE, rtol=0)
    assert list(features) == vector.config["layer_names"], "the caller's dictionary was emptied"

    lean = lean_conditions(vector, model, given)
    bag.pop("ref_scale", None)
    for _ in range(2):  # the second call finds keys and values kept
        found = model(given["sample"], time, None, conditions=lean, **bag)[0]
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def lean_conditions(vector: Vector, model: UNet2p5DConditionModel, given: dict[str, torch.Tensor]) -> Conditions:
    """Only what reaches the output: no reference, no text for the unconditional row."""
    learned, rows = model.learned_text_clip_gen, vector.config["B"]
    if "zeros" not in vector.config["encoder_hidden_states"]:
        return Conditions(rows, learned.expand(rows, -1, -1), model.encode_reference(given["ref_latents"]))
    assert given["ref_scale"].tolist() == [0, 1]
    return Conditions(rows - 1, learned, model.encode_reference(given["ref_latents"][1:]))


def test_official_keys() -> None:
    """Names and shapes of the state dictionary at official size, without allocating it."""
    with torch.device("meta"):
        model = UNet2p5DConditionModel(UNet2DConditionModel.from_config(OFFICIAL))
    expected = json.loads(KEYS.read_text())
    expected = expected.get("keys", expected) if isinstance(expected, dict) else expected
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == dict(expected)
