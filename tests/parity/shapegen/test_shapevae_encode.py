"""Surface points to latents, against the reference's results for its recorded random draws."""

from pathlib import Path

import pytest
import torch

from hy3dgen.shapegen.models.autoencoders.attention_blocks import fps
from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from hy3dgen.shapegen.models.autoencoders.point_encoder import PointSelection
from tests.parity import vectors


def recorded_selection(vae: ShapeVAE, inputs: dict[str, torch.Tensor], batch: int) -> PointSelection:
    """The recorded draws: permutations before they are cut, and indices into the joined clouds of the batch."""
    assert vae.encoder is not None

    def pair(kind_data: str, kind_query: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        if count == 0:
            return torch.empty(0, dtype=torch.int64), torch.empty(batch, 0, dtype=torch.int64)
        offsets = torch.arange(batch).unsqueeze(1) * count
        return inputs[kind_data][:count], inputs[kind_query].view(batch, -1) - offsets

    (count_u, _), (count_s, _) = vae.encoder.shares()
    data_u, query_u = pair("idx_random_pc", "idx_query_random", count_u)
    data_s, query_s = pair("idx_sharpedge_pc", "idx_query_sharpedge", count_s)
    return PointSelection(data_u, data_s, query_u, query_s)


@pytest.mark.parametrize("path", vectors.files("shapegen", "shapevae_encode"), ids=lambda p: p.stem)
@torch.inference_mode()
def test_shapevae_encode(path: Path) -> None:
    vector = vectors.load(path)
    vae = ShapeVAE(**vector.config["kwargs"])
    vae.load_state_dict(vector.weights)
    vae.eval()
    assert vae.encoder is not None and vae.pre_kl is not None
    close = {"rtol": 1e-4, "atol": 1e-5}
    surface, expected = vector.inputs["surface"], vector.outputs
    selection = recorded_selection(vae, vector.inputs, surface.shape[0])

    latents, clouds = vae.encoder(surface[..., :3], surface[..., 3:], selection)
    torch.testing.assert_close(latents, expected["encoder_latents"], **close)
    assert len(clouds) == 6 and all(cloud.shape[-1] == 3 for cloud in clouds)
    torch.testing.assert_close(vae.pre_kl(latents), expected["moments"], **close)

    mode = vae.encode(surface, sample_posterior=False, selection=selection)
    torch.testing.assert_close(mode, expected["mode"], **close)
    distribution = vae.encode_distribution(surface, selection=selection)
    sample = distribution.mean + distribution.std * vector.inputs["posterior_noise"]
    torch.testing.assert_close(sample, expected["sample"], **close)
    torch.testing.assert_close(vae.decode(expected["sample"]), expected["decoded_features"], **close)

    clouds_joined = vector.inputs["fps_src"]
    batch = torch.arange(vector.config["batch"]).repeat_interleave(clouds_joined.shape[0] // vector.config["batch"])
    first = fps(clouds_joined, batch, ratio=vector.config["fps_ratio"][0], random_start=False)
    torch.testing.assert_close(first, expected["fps_first_start"], rtol=0, atol=0)
