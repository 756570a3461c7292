"""The decoders with a small real geometry decoder: slices, batches, host memory, cancelling, refusals."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from hy3dgen.errors import Cancelled, UsageError
from hy3dgen.runtime.stages import cancelling, recording, stage
from hy3dgen.shapegen.models.autoencoders import volume_decoders
from hy3dgen.shapegen.models.autoencoders.attention_processors import CrossAttentionProcessor
from hy3dgen.shapegen.models.autoencoders.decoding import field
from hy3dgen.shapegen.models.autoencoders.decoding.flashvdm import flash_ladder, grouped, packed
from hy3dgen.shapegen.models.autoencoders.decoding.lattice import Lattice, box_of
from hy3dgen.shapegen.models.autoencoders.decoding.masks import dilate, refine
from hy3dgen.shapegen.models.autoencoders.model import ShapeVAE
from hy3dgen.shapegen.models.autoencoders.volume_decoders import (
    FlashVDMVolumeDecoding,
    HierarchicalVolumeDecoding,
    VanillaVolumeDecoder,
)


@pytest.fixture(scope="module")
def geo_decoder() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = ShapeVAE(
            num_latents=12, embed_dim=4, width=16, heads=2, num_decoder_layers=1, num_freqs=2, include_pi=False
        )
    return vae.eval().geo_decoder


def features(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 12, 16, generator=torch.Generator().manual_seed(1))


DECODERS = [
    VanillaVolumeDecoder(),
    HierarchicalVolumeDecoding(),
    HierarchicalVolumeDecoding("lean"),
    FlashVDMVolumeDecoding(),
]
SIZES = {"octree_resolution": 16, "min_resolution": 7}


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda d: f"{type(d).__name__}-{getattr(d, 'band', '')}")
def test_batches_are_shapes_one_by_one(decoder: Any, geo_decoder: Any) -> None:
    latents = features(2)
    with torch.inference_mode():
        both = decoder(latents, geo_decoder, **SIZES)
        single = [decoder(latents[i : i + 1], geo_decoder, **SIZES)[0] for i in range(2)]
    assert both.dtype == torch.float32 and both.device.type == "cpu"
    torch.testing.assert_close(both, torch.stack(single), rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("chunk", [1, 97, 4913, 10**6])
def test_slices_do_not_change_the_grid(chunk: int, geo_decoder: Any) -> None:
    whole = VanillaVolumeDecoder()(features(), geo_decoder, octree_resolution=8)
    if chunk == 1:
        geo = lambda queries, latents: geo_decoder(queries=queries, latents=latents)  # noqa: E731
        small = VanillaVolumeDecoder()(features(), geo, octree_resolution=3, num_chunks=1)
        direct = VanillaVolumeDecoder()(features(), geo_decoder, octree_resolution=3)
        torch.testing.assert_close(small, direct, rtol=1e-4, atol=1e-5)
    else:
        sliced = VanillaVolumeDecoder()(features(), geo_decoder, octree_resolution=8, num_chunks=chunk)
        torch.testing.assert_close(sliced, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile", [37, 500, 10**6])
@pytest.mark.parametrize("decoder", DECODERS[:3], ids=lambda d: f"{type(d).__name__}-{getattr(d, 'band', '')}")
def test_tiles_change_roundings_only(decoder: Any, tile: int, geo_decoder: Any) -> None:
    usual = decoder(features(), geo_decoder, **SIZES)
    tiled = decoder(features(), geo_decoder, tile_points=tile, **SIZES)
    torch.testing.assert_close(tiled, usual, rtol=0, atol=1e-5, equal_nan=True)


def test_a_decoder_with_forward_only_works_everywhere() -> None:
    """A geometry decoder of another package has no prepare and query."""

    def ball(queries: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        assert len(queries) == len(latents)
        return (0.6 - queries.norm(dim=-1, keepdim=True)) * 4

    grids = [d(features(), ball, octree_resolution=48, min_resolution=15)[0] for d in DECODERS[:3]]
    for sparse in grids[1:]:
        known = ~sparse.isnan()
        assert known.any() and not known.all()
        assert torch.equal(sparse[known], grids[0][known])


def test_no_tensor_of_the_grid_reaches_the_network_a5_a6() -> None:
    """A5, A6: all points and all answers existed on the device at once."""
    seen: list[int] = []

    def ball(queries: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        seen.append(queries.untyped_storage().nbytes())
        return 0.6 - queries.norm(dim=-1, keepdim=True)

    VanillaVolumeDecoder()(features(), ball, octree_resolution=40, num_chunks=500)
    assert max(seen) <= 500 * 3 * 4 and sum(seen) == 41**3 * 12


def test_coordinates_are_those_of_the_dense_grid() -> None:
    low, high = box_of([-1.0, -0.8, -0.6, 0.9, 0.7, 0.5])
    lattice = Lattice(low, high, 9)
    want, _, _ = volume_decoders.generate_dense_grid_points(low, high, 9)
    got = lattice.points(torch.arange(1000), torch.from_numpy(lattice.axes))
    assert np.array_equal(got.numpy(), want.reshape(-1, 3))


def test_latents_are_projected_once_b2(geo_decoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """B2: keys and values were recomputed for every slice."""
    calls: list[int] = []
    original = geo_decoder.prepare
    monkeypatch.setattr(geo_decoder, "prepare", lambda latents: calls.append(1) or original(latents))
    VanillaVolumeDecoder()(features(), geo_decoder, octree_resolution=8, num_chunks=100)
    assert calls == [1]


@pytest.mark.parametrize(("held", "chunk"), [(100, 30), (7, 50), (1 << 20, 64)])
def test_indices_travel_in_groups_and_every_point_has_its_own_value(
    monkeypatch: pytest.MonkeyPatch, held: int, chunk: int
) -> None:
    """Each slice sent its own indices, and each sending waited for the slice before."""

    class Height:
        """The field is the height, so that a value names its point."""

        def __call__(self, queries: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
            return queries[..., 2:]

    sent: list[int] = []
    to = torch.Tensor.to
    monkeypatch.setattr(field, "HELD_POINTS", held)
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *a, **k: (sent.append(len(self)) if self.dtype == torch.int64 else None) or to(self, *a, **k),
    )
    lattice = Lattice(*box_of(1.0), 8)
    flat = torch.arange(0, lattice.num_points, 3)
    values = field.values_at(field.Field(Height(), features()), lattice, flat, chunk)
    assert torch.equal(values[0], torch.from_numpy(lattice.axes)[2][flat % lattice.size])
    assert sum(sent) < len(flat) + len(sent) * chunk and max(sent) <= max(held, chunk)
    assert len(sent) <= -(-len(flat) // (max(held, chunk) - chunk + 1))


def test_progress_and_cancelling(geo_decoder: Any) -> None:
    event = threading.Event()
    with recording(listener=lambda record: event.set() if record.steps_done == 3 else None) as run:  # noqa: SIM117
        with cancelling(event), pytest.raises(Cancelled), stage("decode"):
            VanillaVolumeDecoder()(features(), geo_decoder, octree_resolution=8, num_chunks=50)
    assert run.stages[0].steps_done == 3 and run.stages[0].steps_total == 15


def test_flashvdm_leaves_plain_attention_behind_even_after_a_failure(geo_decoder: Any) -> None:
    with pytest.raises(UsageError, match="num_chunks"):
        FlashVDMVolumeDecoding()(features(), geo_decoder, octree_resolution=16, num_chunks=0)
    FlashVDMVolumeDecoding("merge")(features(), geo_decoder, octree_resolution=16)
    assert type(geo_decoder.cross_attn_decoder.attn.attention.attn_processor) is CrossAttentionProcessor


def test_flashvdm_groups_are_stable_c20() -> None:
    """C20: an unstable sort made the result depend on the order of ties."""
    points = torch.rand(5000, 3, generator=torch.Generator().manual_seed(2))
    order, counts = grouped(points)
    start = 0
    for count in counts:
        run = order[start : start + count]
        assert (run[1:] > run[:-1]).all()
        start += count
    assert start == 5000
    flat = points.clone()
    flat[:, 2] = 0.3  # one plane: a division by zero in the reference
    assert sum(grouped(flat)[1]) == 5000


def test_flashvdm_ladders_and_packing() -> None:
    table = {512: [63, 126, 252, 504], 384: [95, 190, 380], 256: [63, 126, 252], 200: [99, 198], 100: [99]}
    assert {r: flash_ladder(r) for r in table} == table
    with pytest.raises(UsageError, match="too small"):
        flash_ladder(2)
    assert packed([5, 3, 1, 1, 20, 2], 10) == [[5, 3, 1], [1], [20], [2]]


def test_refine_is_double_and_dilate() -> None:
    """The pass-by-pass form against doubling into an empty grid and dilating that."""
    coarse = torch.rand(7, 7, 7, generator=torch.Generator().manual_seed(3)) > 0.97
    for finer, radius in ((12, 1), (12, 2), (13, 2)):
        slow = torch.zeros((finer + 1,) * 3, dtype=torch.bool)
        slow[:13:2, :13:2, :13:2] = coarse
        for _ in range(radius):
            slow = torch.nn.functional.max_pool3d(slow[None].float(), 3, 1, 1)[0] > 0
        assert torch.equal(refine(coarse, finer, radius), slow)
    pooled = torch.nn.functional.max_pool3d(coarse[None].float(), 3, 1, 1)[0] > 0
    assert torch.equal(dilate(coarse), pooled)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"octree_resolution": None}, "octree_resolution"),
        ({"octree_resolution": 8.5}, "octree_resolution"),
        ({"octree_resolution": 8, "bounds": [0, 0, 0, 1, 1, 0]}, "empty box"),
        ({"octree_resolution": 8, "bounds": "big"}, "bounds"),
        ({"octree_resolution": 8, "num_chunks": 0}, "num_chunks"),
        ({"octree_resolution": 8, "tile_points": 0}, "tile_points"),
    ],
)
def test_refusals(options: dict[str, Any], words: str, geo_decoder: Any) -> None:
    with pytest.raises(UsageError, match=words):
        VanillaVolumeDecoder()(features(), geo_decoder, **options)
    with pytest.raises(UsageError, match="unknown band"):
        HierarchicalVolumeDecoding("wide")
    with pytest.raises(UsageError, match="unknown topk_mode"):
        FlashVDMVolumeDecoding("median")
