"""The procedural shapes: repeatable, normalised, with honest fields and pictures true to them."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from benchmarks.shapes import CATEGORIES, MORE, sculpt, shape
from benchmarks.shapes.look import Light, material, project
from benchmarks.shapes.shape import LONGEST_SIDE
from benchmarks.shapes.sketch import Sketch

# one hash over the parts of shape 0 of every category: a change here changes every published figure
FIRST_SHAPES_SHA = "d14c20fc14ad9987f208d89b15a1dcdf6474a71a9fac17e25da1a6e0d9c1ed68"


def ball_and_box(s: Sketch) -> None:
    s.ball((0, 0, 0), 0.5, mat=0)
    s.box((0.9, 0, 0), (0.2, 0.3, 0.1), 0.0, mat=1)


def test_there_are_24_categories() -> None:
    assert len(CATEGORIES) == 24


def test_the_fixed_set_has_not_moved() -> None:
    rows = [np.round(shape(name, 0).rows, 6).astype(np.float32).tobytes() for name in CATEGORIES]
    assert hashlib.sha256(b"".join(rows)).hexdigest() == FIRST_SHAPES_SHA


def test_later_categories_stand_beside_the_published_ones() -> None:
    assert not set(MORE) & set(CATEGORIES)
    assert max(len(shape("person", index).rows) for index in range(6)) > 12, "characters have many parts"


@pytest.mark.parametrize("name", ["mug", "quadruped", "solids", *MORE])
def test_repeats_itself_exactly(name: str) -> None:
    one, two = shape(name, 3), shape(name, 3)
    assert np.array_equal(one.rows, two.rows) and np.array_equal(one.pose, two.pose)
    assert np.array_equal(one.surface(200), two.surface(200))
    assert one.render(32).tobytes() == two.render(32).tobytes()
    assert not np.array_equal(one.rows, shape(name, 4).rows)


def test_unknown_category_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="quadruped"):
        shape("dragon", 0)


@pytest.mark.parametrize("name", [*CATEGORIES, *MORE])
def test_normalised_and_consistent(name: str) -> None:
    solid = shape(name, 1)
    surface = solid.surface(3000)
    points, normals = surface[:, :3], surface[:, 3:]
    size = np.ptp(points, axis=0)
    assert 0.94 * LONGEST_SIDE < size.max() < 1.01 * LONGEST_SIDE  # random points may miss a thin tip
    assert np.abs(points.max(0) + points.min(0)).max() < 0.1  # centred, as well as points can tell
    assert np.quantile(np.abs(solid.field(points)), 0.98) < 6e-3
    # normals point outward: the field falls along them on all but the thinnest parts
    ahead, behind = solid.field(points + 0.01 * normals), solid.field(points - 0.01 * normals)
    assert (ahead < behind).mean() > 0.97
    inside = solid.field(np.random.default_rng(0).uniform(-1, 1, (20000, 3))) > 0
    assert 0.002 < inside.mean() < 0.8


def test_field_of_known_solids() -> None:
    """Against the closed formulas of a ball and a box."""
    solid = sculpt("pair", ball_and_box)
    low, high = np.array([-0.5, -0.5, -0.5]), np.array([1.1, 0.5, 0.5])
    scale = LONGEST_SIDE / (high - low).max()
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    original = points / scale + (low + high) / 2
    ball = np.linalg.norm(original, axis=1) - 0.5
    q = np.abs(original - (0.9, 0, 0)) - (0.2, 0.3, 0.1)
    box = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    expected = -np.minimum(ball, box) * scale
    got = solid.field(points)
    near = np.abs(expected) < 0.4
    assert np.abs(got - expected)[near].max() < 0.03  # the box is measured from points, to a thousandth or so
    assert np.array_equal(got > 0.03, expected > 0.03) or np.mean((got > 0.03) != (expected > 0.03)) < 0.02


def test_field_keeps_the_shape_of_its_argument() -> None:
    solid = sculpt("pair", ball_and_box)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 3, indexing="ij"), -1)
    values = solid.field(grid)
    assert values.shape == (5, 5, 5) and values.dtype == np.float32
    assert values[2, 2, 0] == solid.field(grid[2, 2, 0])


@pytest.mark.parametrize("name", ["mug", "plane", "chair"])
def test_silhouette_is_the_field_seen_through_the_camera(name: str) -> None:
    solid = shape(name, 2)
    size, camera = 96, solid.camera_at(12, 30)
    seen = solid.silhouette(size, camera)
    assert np.array_equal(np.asarray(solid.render(size, camera=camera))[..., 3] > 0, seen)
    u, v = project(solid.surface(4000)[:, :3], camera.elevation, camera.distance)
    columns = ((u - camera.centre[0]) / camera.half_size + 1) / 2 * size
    rows = (1 - (v - camera.centre[1]) / camera.half_size) / 2 * size
    assert columns.min() > 0 and columns.max() < size and rows.min() > 0 and rows.max() < size
    # the surface projects onto the silhouette, and every part of the silhouette is hit by surface
    hit = np.zeros((size, size), bool)
    hit[rows.astype(int), columns.astype(int)] = True
    grown = np.pad(seen, 1)
    grown = np.max([grown[i : i + size, j : j + size] for i in range(3) for j in range(3)], axis=0)
    assert (hit & ~grown).sum() == 0
    share = max(np.ptp(columns), np.ptp(rows)) / size
    assert share == pytest.approx(0.85, abs=0.03)  # 15 % border


def test_pictures_are_cut_out_on_white() -> None:
    pixels = np.asarray(shape("fruit", 0).render(48, samples=2))
    assert (pixels[pixels[..., 3] == 0] == (255, 255, 255, 0)).all()
    assert 0 < pixels[..., 3].mean() < 255
    assert set(np.unique(pixels[..., 3])) <= {0, 64, 128, 191, 255}


def test_light_and_colour() -> None:
    """A flat light shows the material as it is; a key light from the left makes the left side brighter."""
    solid = sculpt("ball", lambda s: s.ball((0, 0, 0), 0.5))
    colours = np.array([material((0.2, 0.6, 0.4))] * 8)
    flat = np.asarray(solid.render(32, light=Light((0, 0, 1), flat=1.0, rim=0, specular=0), materials=colours))
    assert np.abs(flat[16, 16, :3].astype(int) - (51, 153, 102)).max() <= 1
    left = np.asarray(solid.render(64, camera=solid.camera_at(0, 30), light=Light((-1, 0, 0.3)), materials=colours))
    row = left[32].astype(int)
    shown = np.flatnonzero(row[:, 3])
    assert row[shown[6], 1] > row[shown[-6], 1] + 30


def test_mirror_and_repeat() -> None:
    solid = sculpt("fan", lambda s: s.box((0.5, 0, 0), (0.3, 0.1, 0.05), 0.01, repeat=5))
    for k in range(5):
        angle = 2 * math.pi * k / 5
        point = (np.array([0.6 * math.cos(angle), 0, 0.6 * math.sin(angle)]) - solid.pose[9:12]) / solid.pose[12]
        assert solid.field(point[None])[0] > 0
    twins = sculpt("twins", lambda s: s.ball((0.4, 0, 0.3), 0.2, mirror=3))
    points = np.random.default_rng(0).uniform(-1, 1, (100, 3))
    expected = twins.field(points)
    for flip in ((-1, 1, 1), (1, 1, -1)):
        assert np.abs(twins.field(points * flip) - expected).max() < 0.02
