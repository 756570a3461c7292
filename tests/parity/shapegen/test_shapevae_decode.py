"""Latents to features to field values, against the reference."""

from pathlib import Path

import pytest
import torch

from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("shapegen", "shapevae_decode"), ids=lambda p: p.stem)
@torch.inference_mode()
def test_shapevae_decode(path: Path) -> None:
    vector = vectors.load(path)
    vae = ShapeVAE(**vector.config["kwargs"]).eval()
    vae.load_state_dict(vector.weights)
    close = {"rtol": 1e-4, "atol": 1e-5}

    features = vae(vector.inputs["latents_scaled"] / vae.scale_factor)
    torch.testing.assert_close(features, vector.outputs["features"], **close)

    queries, decoder = vector.inputs["queries"], vae.geo_decoder
    embeddings = decoder.embed(queries, features.dtype)
    torch.testing.assert_close(embeddings, vector.outputs["query_embeddings"], **close)
    logits = {
        "forward": decoder(queries=queries, latents=features),
        "embeddings": decoder(query_embeddings=embeddings, latents=features),
        "prepared": decoder.query(queries, decoder.prepare(features)),
    }
    for way, values in logits.items():
        torch.testing.assert_close(values, vector.outputs["logits"], **close, msg=lambda m, way=way: f"{way}: {m}")
