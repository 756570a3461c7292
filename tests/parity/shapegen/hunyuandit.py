"""What every kind of ``hunyuandit_*`` vector is checked for."""

from pathlib import Path

import torch

from hy3dgen.shapegen.models.denoisers.hunyuandit import HunYuanDiTPlain
from tests.parity import vectors


@torch.inference_mode()
def check(path: Path) -> None:
    """Evaluation and training mode, with and without a prepared condition."""
    vector = vectors.load(path)
    model = HunYuanDiTPlain(**vector.config["kwargs"])
    model.load_state_dict(vector.weights)
    x, t = vector.inputs["x"], vector.inputs["t"]
    contexts = {
        name.removeprefix("context_"): value for name, value in vector.inputs.items() if name.startswith("context_")
    }
    for mode, expected in (("eval", "y_eval"), ("train", "y_train_mode")):
        model.train(mode == "train")
        found = model(x, t, contexts)
        torch.testing.assert_close(found, vector.outputs[expected], rtol=1e-4, atol=1e-5)
        assert torch.equal(model(x, t, model.prepare_condition(contexts)), found)
