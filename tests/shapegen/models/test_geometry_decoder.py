"""Points are answered the same however they are asked for."""

import pytest
import torch

from hy3dgen.errors import UsageError
from hy3dgen.runtime.costs import activation_data
from hy3dgen.runtime.linear import fast_linears
from hy3dgen.shapegen.models.autoencoders import geometry_decoder
from hy3dgen.shapegen.models.autoencoders.attention_blocks import CrossAttentionDecoder, FourierEmbedder
from hy3dgen.shapegen.models.autoencoders.attention_processors import (
    CrossAttentionProcessor,
    FlashVDMCrossAttentionProcessor,
)
from hy3dgen.shapegen.models.autoencoders.volume_decoders import VanillaVolumeDecoder
from hy3dgen.weights.load import build_without_memory


def decoder(**options: object) -> CrossAttentionDecoder:
    torch.manual_seed(1)
    fourier = FourierEmbedder(num_freqs=8, include_pi=False)
    settings = {"num_latents": 12, "out_channels": 1, "width": 64, "heads": 4, "qkv_bias": False, "qk_norm": True}
    return CrossAttentionDecoder(fourier_embedder=fourier, **(settings | options)).eval()


@pytest.mark.parametrize("options", [{}, {"downsample_ratio": 2, "mlp_expand_ratio": 1, "enable_ln_post": False}])
@torch.inference_mode()
def test_tiles_whole_and_forward_agree(options: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    network = decoder(**options)
    latents, points = torch.randn(2, 12, 64), torch.rand(2, 300, 3) * 2 - 1
    expected = network(queries=points, latents=latents)
    assert expected.shape == (2, 300, 1)
    prepared = network.prepare(latents)
    torch.testing.assert_close(network.query(points, prepared), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(geometry_decoder, "TILE_VALUES", 1)
    tiles = []
    network.query_proj.register_forward_pre_hook(lambda _, given: tiles.append(given[0].shape[1]))
    torch.testing.assert_close(network.query(points, prepared), expected, rtol=1e-5, atol=1e-6)
    assert tiles == [64, 64, 64, 64, 44]
    tiles.clear()
    torch.testing.assert_close(network.query(points, prepared, tile_points=200), expected, rtol=1e-5, atol=1e-6)
    assert tiles == [100, 100, 100]
    tiles.clear()
    many = network.query(points.repeat(1, 20, 1), prepared)
    torch.testing.assert_close(many, expected.repeat(1, 20, 1), rtol=1e-5, atol=1e-6)
    assert sum(tiles) == 6000 and max(tiles) == 64
    with fast_linears(network):
        torch.testing.assert_close(network.query(points, network.prepare(latents)), expected, rtol=1e-5, atol=5e-6)


@torch.inference_mode()
def test_points_are_embedded_for_several_tiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = decoder()
    monkeypatch.setattr(geometry_decoder, "TILE_VALUES", 1)
    embedded = []
    network.fourier_embedder.register_forward_pre_hook(lambda _, given: embedded.append(given[0].shape[1]))
    network.query(torch.rand(1, 1000, 3), network.prepare(torch.randn(1, 12, 64)))
    assert embedded == [8 * 64, 1000 - 8 * 64]


@torch.inference_mode()
def test_one_shape_for_many_items() -> None:
    network = decoder()
    latents, points = torch.randn(1, 12, 64), torch.rand(3, 20, 3)
    expected = network(queries=points, latents=latents.expand(3, -1, -1))
    torch.testing.assert_close(network.query(points, network.prepare(latents).expand(3)), expected)


@torch.inference_mode()
def test_a_selecting_processor_sees_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashVDM samples every hundredth query of a call, so a call must not be cut into tiles."""
    network = decoder()
    monkeypatch.setattr(geometry_decoder, "TILE_VALUES", 1)
    seen = []

    class Selecting(FlashVDMCrossAttentionProcessor):
        def __call__(self, attn, q, k, v):  # type: ignore[no-untyped-def]
            seen.append(q.shape[2])
            return super().__call__(attn, q, k, v)

    network.set_cross_attention_processor(Selecting(topk=True))
    network.query(torch.rand(1, 300, 3), network.prepare(torch.randn(1, 12, 64)))
    assert seen == [300]


@torch.inference_mode()
def test_default_processor_comes_back() -> None:
    """E13: the reference put the class where an instance belongs, and the next call failed."""
    network = decoder()
    points, latents = torch.rand(1, 5, 3), torch.randn(1, 12, 64)
    expected = network(queries=points, latents=latents)
    network.set_cross_attention_processor(FlashVDMCrossAttentionProcessor(topk=True))
    assert not torch.equal(network(queries=points, latents=latents), expected)
    network.set_default_cross_attention_processor()
    assert isinstance(network.cross_attn_decoder.attn.attention.attn_processor, CrossAttentionProcessor)
    assert torch.equal(network(queries=points, latents=latents), expected)


@torch.inference_mode()
def test_float32_points_meet_float16_latents() -> None:
    """Refined levels are asked for in float32 while the latents are float16: angles keep the points' precision."""
    network = decoder().to(torch.bfloat16)
    assert (
        network.query(torch.rand(1, 5, 3), network.prepare(torch.randn(1, 12, 64).bfloat16())).dtype == torch.bfloat16
    )


def test_missing_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="latents="):
        decoder()(queries=torch.zeros(1, 1, 3))


@torch.inference_mode()
def test_selection_with_one_head() -> None:
    """A squeeze in the reference removed the head axis when there was one head."""
    q, k, v = torch.randn(1, 1, 130, 8), torch.randn(1, 1, 30, 8), torch.randn(1, 1, 30, 8)
    found = FlashVDMCrossAttentionProcessor(topk=[[0, 1], [70, 60]])(None, q, k, v)
    assert found.shape == q.shape and bool(torch.isfinite(found).all())


def test_selection_is_for_one_shape() -> None:
    q = torch.randn(2, 1, 130, 8)
    with pytest.raises(UsageError, match="batch of 2"):
        FlashVDMCrossAttentionProcessor(topk=[[0], [130]])(None, q, q, q)


def test_points_on_a_gpu_are_taken_in_small_tiles() -> None:
    """Of the published decoder 2048 at a time: with more, the hidden layer takes a decode above 150 MiB."""
    wide = build_without_memory(lambda: decoder(num_latents=3072, width=1024, heads=16))
    assert wide._tile(torch.empty(1, 8000, 3, device="meta")) == 2048
    assert wide._tile(torch.empty(2, 8000, 3, device="meta")) == 1024
    assert wide._tile(torch.empty(1, 8000, 3, device="meta"), 16384) == 16384


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.inference_mode()
def test_tiles_take_no_more_than_plans_allow_for_and_change_roundings_only() -> None:
    """The published size in float16; what cuBLAS keeps counts, if nothing has used it before."""
    network = decoder(num_latents=3072, width=1024, heads=16).half().cuda()  # the device's own noise is not needed
    latents = torch.randn(1, 3072, 1024).half().cuda()
    rows = {row["tile_points"]: row["extra_mb"] for row in activation_data()["decode"]["rows"]["hierarchical"]}
    grids = []
    for tile, allowed_mb in sorted(rows.items()):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        grids.append(
            VanillaVolumeDecoder()(latents, network, octree_resolution=63, num_chunks=1 << 16, tile_points=tile)
        )
        assert torch.cuda.max_memory_allocated() - held <= allowed_mb << 20
    for grid in grids[1:]:
        torch.testing.assert_close(grid, grids[0], rtol=0, atol=1e-2)
