"""The batched fields against the benchmark's scalar ones, and what normals, signs and boxes must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.shapes import CATEGORIES, shape
from benchmarks.shapes.primitives import ROW_FLOATS, TYPE
from benchmarks.shapes.shape import LONGEST_SIDE
from hy3dgen.errors import UsageError
from training.generator import surface, targets
from training.generator.draw import draw_block
from training.generator.primitives import DISTANCES
from training.generator.solids import Solids
from training.generator.stream import Lot, block_generator, normalised_lot

STAR = next(item for item in (shape("silhouettes", index) for index in range(16)) if (item.rows[:, TYPE] == 7).any())
SHAPES = [*(shape(name, 3) for name in CATEGORIES), STAR]


def packed(dtype: torch.dtype = torch.float64) -> Solids:
    return Solids.pack([item.rows for item in SHAPES], [item.pose for item in SHAPES], dtype=dtype)


def test_fields_equal_the_benchmarks():
    points = np.random.default_rng(0).uniform(-1.05, 1.05, (len(SHAPES), 600, 3))
    truth = np.stack([item.field(where) for item, where in zip(SHAPES, points, strict=True)])
    mine = packed().field(torch.from_numpy(points)).numpy()
    assert np.abs(mine - truth).max() < 1e-6
    single = packed(torch.float32).field(torch.from_numpy(points).float()).numpy()
    assert np.quantile(np.abs(single - truth), 0.999) < 1e-4
    used = {int(kind) for item in SHAPES for kind in item.rows[:, TYPE]}
    assert used == set(DISTANCES), "some primitive is in none of the shapes"


def test_fields_do_not_depend_on_the_rest_of_the_batch(monkeypatch):
    points = torch.rand(len(SHAPES), 50, 3, dtype=torch.float64) * 2 - 1
    together = packed().field(points)
    for index in (0, 7, 23):
        alone = packed()[index : index + 1].field(points[index : index + 1])
        torch.testing.assert_close(alone[0], together[index], rtol=0, atol=1e-12)
    monkeypatch.setattr("training.generator.solids.PIECE_VALUES", 5000)  # many small pieces
    torch.testing.assert_close(packed().field(points), together, rtol=0, atol=1e-12)


def test_an_empty_batch_is_refused():
    with pytest.raises(UsageError, match="at least one"):
        Solids.pack([], [])


def test_surface_points_lie_on_the_surface_and_normals_are_its_gradient(lot: Lot):
    points = lot.points(128, torch.Generator().manual_seed(1)).double()
    solids = lot.solids.to("cpu", torch.float64)
    at, normals = points[..., :3], points[..., 3:]
    assert solids.field(at).abs().quantile(0.99) < 2e-3
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(normals.shape[:2], dtype=torch.float64))
    # the gradient by central differences, not by the tetrahedron that made the normals
    step = 1e-4 * torch.eye(3, dtype=torch.float64)
    slopes = torch.stack([solids.fold(at + s)[0] - solids.fold(at - s)[0] for s in step], -1)
    cosine = (slopes / slopes.norm(dim=-1, keepdim=True) * normals).sum(-1)
    assert cosine.median() > 0.9999
    assert (cosine > 0.9).float().mean() > 0.9  # edges turn within the step
    reach = 0.006 * normals
    assert (solids.field(at - reach) > 0).float().mean() > 0.97, "inside must be positive"
    assert (solids.field(at + reach) < 0).float().mean() > 0.97


def test_normalised_shapes_fill_the_frame(lot: Lot):
    points = lot.points(256, torch.Generator().manual_seed(2))[..., :3]
    torch.testing.assert_close(2 * lot.halves.amax(1), torch.full((len(lot),), LONGEST_SIDE), rtol=1e-4, atol=1e-4)
    assert bool((points.abs() <= lot.halves[:, None] + 0.03).all())
    assert bool((points.amax(1) - points.amin(1)).amax(1).gt(0.8 * LONGEST_SIDE).all())
    low, high = surface.outer_box(lot.solids)
    assert bool((low <= -lot.halves + 1e-3).all()) and bool((high >= lot.halves - 1e-3).all())


def test_boxes_equal_the_benchmarks_within_their_noise():
    items = SHAPES[:6]
    turned = [np.concatenate([item.pose[:9], np.zeros(3), np.ones(1)]) for item in items]
    solids = Solids.pack([item.rows for item in items], turned)
    made, _, good = surface.normalise(solids, torch.Generator().manual_seed(0))
    assert bool(good.all())
    truth = torch.tensor(np.stack([item.pose for item in items]), dtype=torch.float32)
    torch.testing.assert_close(made.poses[:, 12], truth[:, 12], rtol=0.02, atol=0)
    torch.testing.assert_close(made.poses[:, 9:12], truth[:, 9:12], rtol=0, atol=0.02)


def test_a_ball_is_measured_exactly():
    row = np.zeros((1, ROW_FLOATS))
    ball = shape("fruit", 0)
    row[0] = ball.rows[0]
    row[0, 0], row[0, 1], row[0, 6:9] = 1, 0, 0  # an ellipsoid at the origin
    row[0, 3:5], row[0, 9:18], row[0, 18:21], row[0, 34:36] = 0, np.eye(3).ravel(), 0.5, (0.51, 0)
    pose = np.concatenate([np.eye(3).ravel(), np.zeros(3), np.ones(1)])
    solids = Solids.pack([row], [pose])
    corner = torch.full((1, 3), 0.6)
    points, found = surface.sample(solids, -corner, corner, 200, torch.Generator().manual_seed(0))
    assert int(found) == 200
    torch.testing.assert_close(points[0, :, :3].norm(dim=-1), torch.full((200,), 0.5), rtol=0, atol=1e-4)
    torch.testing.assert_close(points[0, :, 3:], points[0, :, :3] * 2, rtol=0, atol=3e-3)
    assert points[0, :, :3].mean(0).abs().max() < 0.1, "points must cover the ball evenly"


def test_queries_and_targets(lot: Lot):
    generator = torch.Generator().manual_seed(3)
    points = lot.points(64, generator)
    asked = targets.queries(points, 100, generator)
    assert asked.shape == (len(lot), 100, 3)
    near, free = (asked[:, :50] - points[:, :50, :3]).norm(dim=-1), asked[:, 50:]
    assert near.max() < 0.4 and free.abs().max() <= 1.05 and free.abs().max() > 0.95
    values = targets.clamped_field(lot.solids, asked)
    assert values.abs().max() == 1
    exact = lot.solids.field(asked)
    torch.testing.assert_close(values, (exact / 0.08).clamp(-1, 1))


def test_mirrored_shapes_keep_their_points_and_normals_together(lot: Lot):
    generator = torch.Generator().manual_seed(4)
    points = lot.points(32, generator)
    asked = targets.queries(points, 16, generator)
    surface_, queries = targets.mirrored(points, asked, torch.Generator().manual_seed(0))
    flipped = (surface_[:, 0, 0] != points[:, 0, 0]).float()
    assert 0 < flipped.sum() < len(lot)
    sign = 1 - 2 * flipped[:, None]
    for axis in (0, 3):
        torch.testing.assert_close(surface_[..., axis], points[..., axis] * sign)
    torch.testing.assert_close(queries[..., 0], asked[..., 0] * sign)
    torch.testing.assert_close(surface_[..., [1, 2, 4, 5]], points[..., [1, 2, 4, 5]])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_and_cpu_agree():
    device = torch.device("cuda")
    points = torch.rand(len(SHAPES), 500, 3) * 2 - 1
    on_cpu = packed(torch.float32).field(points)
    on_gpu = packed(torch.float32).to(device).field(points.to(device)).cpu()
    assert (on_cpu - on_gpu).abs().quantile(0.999) < 1e-4
    drawn = draw_block(5, 0, 32)
    here = normalised_lot(drawn, device, block_generator(device, 5, 0))
    plain = normalised_lot(drawn, device, block_generator(device, 5, 0), engine="torch")
    assert len(here) > 24
    torch.testing.assert_close(here.halves, plain.halves, rtol=0, atol=1e-2)
    at = here.points(256, torch.Generator(device).manual_seed(0))[..., :3]
    assert here.solids.to("cpu").field(at.cpu()).abs().quantile(0.99) < 3e-3
