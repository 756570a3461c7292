"""Attention over all or over selected latents, against the reference."""

from pathlib import Path

import pytest
import torch

from hy3dgen.shapegen.models.autoencoders.attention_processors import (
    CrossAttentionProcessor,
    FlashVDMCrossAttentionProcessor,
    FlashVDMTopMCrossAttentionProcessor,
)
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("shapegen", "attention_processors"), ids=lambda p: p.stem)
def test_attention_processors(path: Path) -> None:
    vector = vectors.load(path)
    for case in vector.config["cases"]:
        name = f"case{case['case']}"
        q, k, v = (vector.inputs[f"{name}.{part}"] for part in "qkv")
        results = {
            "full": CrossAttentionProcessor()(None, q, k, v),
            "mean_topk_true": FlashVDMCrossAttentionProcessor(topk=True)(None, q, k, v),
        }
        if "groups" in case:
            results["mean_groups"] = FlashVDMCrossAttentionProcessor(topk=case["groups"])(None, q, k, v)
            results["merge_groups"] = FlashVDMTopMCrossAttentionProcessor(topk=case["groups"])(None, q, k, v)
            results["merge_groups_sharp"] = FlashVDMTopMCrossAttentionProcessor(topk=case["groups"])(None, 4 * q, k, v)
        for key, result in results.items():
            torch.testing.assert_close(
                result, vector.outputs[f"{name}.{key}"], rtol=1e-4, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}"
            )
        assert {key.partition(".")[2] for key in vector.outputs if key.startswith(name + ".")} == set(results)
