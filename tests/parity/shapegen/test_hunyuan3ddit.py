"""The denoiser of the 2.0 models, against the reference."""

from pathlib import Path

import pytest
import torch

from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import Hunyuan3DDiT, timestep_embedding
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("shapegen", "hunyuan3ddit"), ids=lambda p: p.stem)
@torch.inference_mode()
def test_hunyuan3ddit(path: Path) -> None:
    vector = vectors.load(path)
    model = Hunyuan3DDiT(**vector.config["kwargs"]).eval()
    model.load_state_dict(vector.weights)
    inputs, outputs = vector.inputs, vector.outputs
    x, t, guidance = inputs["x"], inputs["t"], inputs.get("guidance")
    contexts = {"main": inputs["context_main"]}

    found = model(x, t, contexts, guidance=guidance)
    torch.testing.assert_close(found, outputs["y"], rtol=1e-4, atol=1e-5)
    prepared = model.prepare_condition(contexts)
    assert torch.equal(model(x, t, prepared, guidance=guidance), found)

    for name, value in (("timestep", t), ("timestep", t.half()), ("guidance", guidance)):
        if value is None:
            continue
        half = value.dtype == torch.float16
        expected = outputs[f"{name}_embedding{'_fp16' if half else ''}"]
        embedding = timestep_embedding(value, 256, model.time_factor)
        torch.testing.assert_close(embedding, expected, rtol=0, atol=2e-3 if half else 1e-4)
