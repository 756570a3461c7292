"""What every kind of ``conditioner_*`` vector is checked for."""

from pathlib import Path

import torch

from hy3dgen.shapegen.models import conditioner
from tests.parity import vectors


@torch.inference_mode()
def check(path: Path) -> None:
    """Preprocessing, tokens, the unconditional embedding and the view table."""
    vector = vectors.load(path)
    call = {name: value for name, value in vector.config["call"].items() if name != "image"}
    encoder = getattr(conditioner, vector.config["target"].rpartition(".")[2])(**vector.config["kwargs"])
    encoder.load_state_dict(vector.weights)
    image = vector.inputs["image"]
    close = {"rtol": 1e-4, "atol": 5e-5}

    found = encoder(image, **call)
    names = {name for name in vector.outputs if name in ("main", "additional")}
    assert set(found) == names
    for name in names:
        torch.testing.assert_close(found[name], vector.outputs[name], **close)
    if "debug.preprocessed" in vector.outputs:
        low, high = call["value_range"]
        pixels = encoder.main_image_encoder.transform(((image - low) / (high - low)).flatten(0, -4))
        torch.testing.assert_close(pixels, vector.outputs["debug.preprocessed"], **close)
    if "view_embed" in vector.outputs:
        table = encoder.main_image_encoder.view_embed
        torch.testing.assert_close(table, vector.outputs["view_embed"], rtol=0, atol=1e-6)

    call.pop("value_range", None)
    for name, zeros in encoder.unconditional_embedding(image.shape[0], **call).items():
        assert list(zeros.shape) == vector.outputs[f"uncond_shape.{name}"].tolist()
        assert not zeros.any()
