"""The measures, on shapes whose overlap and distance are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from benchmarks import scoring


def ball(radius: float, centre: tuple[float, float, float] = (0, 0, 0), cells: int = 48) -> np.ndarray:
    return radius - np.linalg.norm(scoring.lattice(cells) - np.float32(centre), axis=-1)


def test_iou_of_concentric_balls_is_the_ratio_of_volumes() -> None:
    assert scoring.volume_iou(ball(0.6) > 0, ball(0.8) > 0) == pytest.approx((0.6 / 0.8) ** 3, abs=0.02)
    assert scoring.volume_iou(ball(0.6) > 0, ball(0.6) > 0) == 1.0


def test_crossings_lie_on_the_surface() -> None:
    points = scoring.crossings(ball(0.7))
    assert np.abs(np.linalg.norm(points, axis=1) - 0.7).max() < 0.002


def test_chamfer_of_concentric_balls_is_their_gap() -> None:
    rng = np.random.default_rng(0)
    one, two = scoring.crossings(ball(0.7)), scoring.crossings(ball(0.8))
    assert scoring.chamfer(one, two, rng) == pytest.approx(0.1, abs=0.01)
    assert scoring.chamfer(one, one, rng) < 0.01
    assert scoring.chamfer(one, np.zeros((0, 3)), rng) == 1.0


def test_samples_are_spread_by_area() -> None:
    mesh = trimesh.creation.box((1.0, 1.0, 0.1))
    points = scoring.sample_surface(np.asarray(mesh.vertices), np.asarray(mesh.faces), 4000, np.random.default_rng(0))
    large = np.abs(np.abs(points[:, 2]) - 0.05) < 1e-6
    assert large.mean() == pytest.approx(2 / 2.4, abs=0.03)


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.box((1.0, 0.8, 1.2)),
        trimesh.creation.icosphere(3, 0.8),
        trimesh.creation.torus(0.6, 0.25),
        trimesh.util.concatenate(
            [trimesh.creation.icosphere(3, 0.5), trimesh.creation.icosphere(3, 0.5).apply_translation((0.4, 0, 0))]
        ),
    ],
)
def test_inside_mesh_has_the_mesh_s_volume(mesh: trimesh.Trimesh) -> None:
    inside = scoring.inside_mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), 64)
    cell = (2 * scoring.BOUND / 64) ** 3
    union = mesh.volume
    if mesh.body_count > 1:  # two overlapping balls: the lens counts once
        lens = np.pi * (4 * 0.5 + 0.4) * (2 * 0.5 - 0.4) ** 2 / 12
        union -= lens
    assert inside.sum() * cell == pytest.approx(union, rel=0.05)


def test_inside_agrees_with_the_field_and_its_axes() -> None:
    mesh = trimesh.creation.icosphere(4, 0.4).apply_translation((0.5, 0.1, -0.3))
    inside = scoring.inside_mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), 48)
    assert scoring.volume_iou(inside, ball(0.4, (0.5, 0.1, -0.3)) > 0) > 0.96


def test_inside_survives_a_hole() -> None:
    """One axis looks through the hole; the other two decide."""
    mesh = trimesh.creation.box((1.0, 1.0, 1.0))
    faces = np.asarray(mesh.faces)[mesh.face_normals[:, 2] < 0.5]
    whole = scoring.inside_mesh(np.asarray(mesh.vertices), np.asarray(mesh.faces), 32)
    assert scoring.volume_iou(scoring.inside_mesh(np.asarray(mesh.vertices), faces, 32), whole) > 0.95


def test_floating_share_is_the_area_beside_the_largest_piece() -> None:
    one, two = trimesh.creation.icosphere(2, 1.0), trimesh.creation.icosphere(2, 0.5).apply_translation((3, 0, 0))
    mesh = trimesh.util.concatenate([one, two])
    assert scoring.floating_share(np.asarray(mesh.vertices), np.asarray(mesh.faces)) == pytest.approx(0.2, abs=1e-6)
    assert scoring.floating_share(np.asarray(one.vertices), np.asarray(one.faces)) == 0.0
    torn = np.asarray(one.vertices)[np.asarray(one.faces)].reshape(-1, 3)  # as if every edge were a texture seam
    assert scoring.floating_share(torn, np.arange(len(torn)).reshape(-1, 3)) == 0.0


def test_silhouettes_are_compared_after_framing() -> None:
    big, small = np.zeros((100, 100), bool), np.zeros((60, 90), bool)
    big[10:90, 30:70] = True
    small[5:25, 40:50] = True  # the same 2:1 bar, elsewhere and smaller
    assert scoring.silhouette_iou(big, small) > 0.97
    assert scoring.silhouette_iou(big, big.T) == pytest.approx(1 / 3, abs=0.03)
    assert scoring.silhouette_iou(big, np.zeros_like(big)) == 0.0


def test_a_lost_antenna_does_not_shift_the_rest() -> None:
    body = np.zeros((120, 120), bool)
    body[40:110, 30:90] = True
    whole = body.copy()
    whole[22:40, 58:62] = True
    true_overlap = body.sum() / whole.sum()
    # both outlines lie on whole pixels of another size, which costs some of their edge
    assert scoring.silhouette_iou(whole, body) == pytest.approx(true_overlap, abs=0.05)
    assert scoring.volume_iou(scoring.framed(whole), scoring.framed(body)) < 0.75


def test_missing_parts_of_a_field_take_their_side() -> None:
    """A shell with a solid core: two separate regions outside, one inside, all cut out."""
    radius = np.linalg.norm(scoring.lattice(40), axis=-1)
    field = np.where(radius < 0.5, radius - 0.3, 0.8 - radius).astype(np.float32)
    thinned = np.where(np.abs(field) > 0.11, np.nan, field)
    assert np.isnan(thinned).mean() > 0.5
    filled = scoring.with_signs(thinned)
    assert np.array_equal(filled > 0, field > 0)
    known = ~np.isnan(thinned)
    assert np.array_equal(filled[known], field[known])
    assert (scoring.with_signs(np.full((4, 4, 4), np.nan, np.float32)) == -1).all()
