"""Farthest point sampling without torch_cluster (B11), and the encoder's random choices."""

import pytest
import torch

from hy3dgen.errors import UsageError
from hy3dgen.shapegen.models.autoencoders.attention_blocks import FourierEmbedder, PointCrossAttentionEncoder, fps


def slow_fps(points: torch.Tensor, count: int, start: int) -> list[int]:
    """The definition, with all distances at once."""
    distances = torch.cdist(points.double(), points.double())
    chosen = [start]
    while len(chosen) < count:
        chosen.append(int(distances[:, chosen].amin(dim=1).argmax()))
    return chosen


def test_each_cloud_by_the_definition() -> None:
    torch.manual_seed(0)
    clouds = [torch.rand(count, 3) for count in (50, 0, 31)]
    batch = torch.tensor([0] * 50 + [2] * 31)
    found = fps(torch.cat(clouds), batch, ratio=0.25, random_start=False).tolist()
    assert found[:13] == slow_fps(clouds[0], 13, 0)  # ceil(0.25 · 50)
    assert [index - 50 for index in found[13:]] == slow_fps(clouds[2], 8, 0)
    assert fps(torch.cat(clouds), ptr=[0, 50, 50, 81], ratio=0.25, random_start=False).tolist() == found


def test_random_start_is_the_generators() -> None:
    points = torch.rand(40, 3)
    draws = [fps(points, ratio=0.5, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] == slow_fps(points, 20, draws[0][0])


def test_ties_and_degenerate_clouds() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0]])
    assert fps(corners, ratio=0.5, random_start=False).tolist() == [0, 1]
    assert fps(torch.zeros(3, 3), ratio=1.0, random_start=False).tolist()[0] == 0
    assert fps(torch.zeros(0, 3), random_start=False).tolist() == []
    with pytest.raises(UsageError, match="2 points, but there are 3"):
        fps(torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64))


def encoder(**options: object) -> PointCrossAttentionEncoder:
    settings = {"num_latents": 12, "downsample_ratio": 3, "pc_size": 60, "pc_sharpedge_size": 30, "point_feats": 3}
    settings |= {"width": 16, "heads": 2, "layers": 0, "use_ln_post": True}
    return PointCrossAttentionEncoder(fourier_embedder=FourierEmbedder(4), **(settings | options)).eval()


@torch.inference_mode()
def test_shares_follow_the_sizes() -> None:
    network = encoder()
    selection = network.select(torch.rand(2, 90, 3), torch.Generator().manual_seed(0))
    assert selection.data_uniform.shape == (24,) and selection.query_uniform.shape == (2, 8)
    assert selection.data_sharp.shape == (12,) and selection.query_sharp.shape == (2, 4)
    assert int(selection.query_sharp.max()) < 12 and len(set(selection.data_uniform.tolist())) == 24
    cloud, features = torch.rand(2, 90, 3), torch.rand(2, 90, 3)
    latents, clouds = network(cloud, features, selection)
    assert latents.shape == (2, 12, 16)
    assert [item.shape[1] for item in clouds] == [12, 36, 8, 24, 4, 12]


@torch.inference_mode()
def test_without_sharp_points() -> None:
    network = encoder(pc_sharpedge_size=0, normal_pe=True)
    latents, clouds = network(torch.rand(1, 60, 3), torch.rand(1, 60, 3), generator=torch.Generator().manual_seed(0))
    assert latents.shape == (1, 12, 16)
    assert clouds[4].shape == (1, 1, 3) and not clouds[4].any()
