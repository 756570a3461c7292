"""The first guess: a picture of the front spread over all views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from hy3dgen.rendering import maps
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.surface import prepare
from hy3dgen.texgen.config import VIEWS_DEG
from hy3dgen.texgen.guess import continued, first_guess

SIZE = 64


def drawn(mesh: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normals, positions (1, 6, 3, S, S) and covered (1, 6, S, S) of the official views."""
    ready = prepare(mesh.vertices, mesh.faces)
    drawings = [maps.draw(ready, View(azimuth, elevation), (SIZE, SIZE)) for azimuth, elevation in VIEWS_DEG]
    normals, positions = (
        torch.stack([torch.from_numpy(maps.to_uint8(one(d))).permute(2, 0, 1) / 255 for d in drawings])[None]
        for one in (maps.normal_map, maps.position_map)
    )
    return normals, positions, torch.stack([d.raster.covered for d in drawings])[None]


@pytest.fixture(scope="module")
def egg() -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=4)
    mesh.apply_scale([1.0, 0.8, 0.7])
    return mesh


def front_picture(covered: torch.Tensor) -> torch.Tensor:
    """Red grows from left to right, green from top to bottom; the outline is that of the front view."""
    ramp = torch.linspace(0, 1, SIZE)
    colours = torch.stack([ramp.expand(SIZE, SIZE), ramp[:, None].expand(SIZE, SIZE), torch.full((SIZE, SIZE), 0.5)])
    return torch.cat([colours, covered[0, 0][None].float()])[None]


def test_the_front_keeps_its_colours_and_the_back_gets_them_through(egg: trimesh.Trimesh) -> None:
    normals, positions, covered = drawn(egg)
    picture = front_picture(covered)
    guess = first_guess(normals, positions, picture)
    assert torch.equal(guess.covered, covered)
    seen = guess.seen[0, 0] > 0.7
    assert seen.sum() > 0.4 * covered[0, 0].sum()
    difference = (guess.views[0, 0] - picture[0, :3])[:, seen].abs().amax(0)
    assert (difference > 0.03).float().mean() < 0.04, "but for the rim, where pictures mix colours with the background"
    assert guess.seen[0, 2].max() == 0, "nothing of the back is seen"
    back = guess.views[0, 2].flip(-1)  # from behind, left and right change places
    middle = slice(SIZE // 3, -SIZE // 3)
    torch.testing.assert_close(back[:, middle, middle], picture[0, :3, middle, middle], atol=0.08, rtol=0)


def test_left_and_right_are_not_confused(egg: trimesh.Trimesh) -> None:
    normals, positions, covered = drawn(egg)
    views = first_guess(normals, positions, front_picture(covered)).views[0]
    shown = [views[k][:, covered[0, k]].mean(1) for k in (1, 3)]  # from file +x, then from -x
    assert shown[0][0] > 0.6 and shown[1][0] < 0.4, "red grows towards +x"


def test_what_is_hidden_in_front_comes_from_the_other_side() -> None:
    """Two balls; a board in front hides the right one, whose colours are then those of the left one."""
    move = trimesh.transformations.translation_matrix
    balls = [trimesh.creation.icosphere(3, 0.25).apply_transform(move((x, 0, 0))) for x in (-0.4, 0.4)]
    board = trimesh.creation.box((0.7, 0.6, 0.05), move((0.45, 0, 0.5)))
    normals, positions, covered = drawn(trimesh.util.concatenate([*balls, board]))
    picture = torch.zeros(1, 4, SIZE, SIZE)
    picture[:, 3] = covered[0, 0].float()
    picture[:, 1, :, : SIZE * 2 // 5], picture[:, 0, :, SIZE * 2 // 5 :] = 0.8, 0.8  # the ball green, the board red
    guess = first_guess(normals, positions, picture)
    outward = 1 - 2 * normals[0, 1, 1]  # how much the surface faces the front: maps hold inward normals
    depth = (0.5 - positions[0, 1, 1]) * 1.15
    hidden = covered[0, 1] & (outward.abs() > 0.5) & (depth.abs() < 0.2)
    facing = hidden & (guess.views[0, 1, 1] > 0.5)
    assert facing.sum() > 0.3 * hidden.sum(), "the half that faces the front is green as the left ball is"
    assert guess.seen[0, 1][facing].max() < 0.05


def test_misplaced_pictures_move_and_backgrounds_continue(egg: trimesh.Trimesh) -> None:
    normals, positions, covered = drawn(egg)
    picture = front_picture(covered)
    exact = first_guess(normals, positions, picture).views[0, 0]
    moved = first_guess(normals, positions, picture, jitter=torch.tensor([[0.1, 0.0, 0.0, 0.0]])).views[0, 0]
    assert (moved - exact)[0][covered[0, 0]].mean() > 0.02, "it lies farther left, so redder parts come into view"
    views = torch.zeros(1, 1, 3, 8, 8)
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    views[0, 0, :, 2:4, 2:4], known[0, 0, 2:4, 2:4] = 0.7, True
    assert torch.allclose(continued(views, known), torch.tensor(0.7))
    assert torch.equal(continued(views, torch.ones_like(known)), views)


def test_an_empty_front_view_gives_finite_colours(egg: trimesh.Trimesh) -> None:
    normals, positions, _ = drawn(egg)
    guess = first_guess(torch.ones_like(normals), torch.ones_like(positions), torch.zeros(1, 4, 16, 16))
    assert torch.isfinite(guess.views).all() and not guess.covered.any()
    assert np.isclose(float(guess.seen.sum()), 0)
