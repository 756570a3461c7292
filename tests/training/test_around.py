"""Views of all four sides: the same shape, seen from where ``rendering.cameras`` says that each side is."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from benchmarks.shapes import look, sculpt, shape
from benchmarks.shapes.sketch import Sketch
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.shapegen.preprocessors import MVImageProcessorV2
from training.generator import around, pictures
from training.generator.solids import Solids
from training.generator.stream import Lot

SIZE = 42
STILL = around.Walk(elevation=0.0, distance=0.0, turning=1.0)


def test_sides_are_those_of_the_whole_project():
    assert tuple(VIEW_AZIMUTHS_DEG) == look.SIDES
    assert [MVImageProcessorV2.view2idx[name] for name in look.SIDES] == [0, 1, 2, 3]
    for side, azimuth_deg in enumerate(VIEW_AZIMUTHS_DEG.values()):
        angle = np.radians(azimuth_deg)
        camera = torch.tensor([np.sin(angle), 0.3, np.cos(angle)])
        seen = around.turned_vectors(camera, side)
        torch.testing.assert_close(seen, torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_nose_is_seen_where_it_is():
    """A ball with a nose in front and a red knob at its own left side."""

    def draw(s: Sketch) -> None:
        s.ball((0, 0, 0), 0.5, mat=0)
        s.ball((0, 0, 0.5), 0.2, mat=0)
        s.ball((0.5, 0, 0), 0.2, mat=1)

    head = sculpt("head", draw)
    materials = np.stack([look.material((0.5, 0.5, 0.5)), *[look.material((1.0, 0.0, 0.0))] * 7])
    light = look.Light((0, 0, 1), specular=0.0)
    red_at = []
    for side in range(4):
        turned = head.turned(side)
        pixels = np.asarray(turned.render(96, camera=turned.camera_at(0, 20), light=light, materials=materials))
        red = (pixels[..., 3] > 0) & (pixels[..., 0] > 2.0 * pixels[..., 1])
        columns = np.nonzero(red)[1]
        red_at.append((len(columns), columns.mean() if len(columns) else np.nan))
    (_, front), (most, left), (_, back), (least, _) = red_at
    assert front > 60 and back < 36, "a knob at the object's left is right in the picture of its front"
    assert most > 0 and least == 0, "seen from the left, hidden from the right"
    assert 50 < left < 60, "the nose points left in the picture of the object's left side"


def test_turned_shapes_have_the_turned_field(lot: Lot):
    points = 2 * torch.rand(len(lot), 300, 3, generator=torch.Generator().manual_seed(0)) - 1
    before, kinds = lot.solids.fold(points)
    for side in range(4):
        after, same_kinds = around.turned(lot.solids, side).fold(around.turned_vectors(points, side))
        torch.testing.assert_close(after, before, rtol=0, atol=2e-5)
        assert (kinds == same_kinds).float().mean() > 0.999
    whole = around.turned(around.turned(lot.solids, 1), 3)
    assert torch.equal(whole.poses, lot.solids.poses)


def test_training_and_held_out_shapes_turn_alike():
    made = [shape(name, 1) for name in ("mug", "quadruped")]
    solids = Solids.pack([item.rows for item in made], [item.pose for item in made], dtype=torch.float64)
    for side in range(4):
        held_out = np.stack([item.turned(side).pose for item in made])
        np.testing.assert_array_equal(around.turned(solids, side).poses.numpy(), held_out)


def test_other_sides_are_pictures_of_turned_shapes(lot: Lot):
    points = lot.points(200, torch.Generator().manual_seed(0))
    cameras = pictures.fit_windows(points, lot.views)
    scene = pictures.scene_of(cameras, lot.lights, lot.materials)
    rest = (points, lot.halves, SIZE)
    seen = around.other_sides(lot.solids, scene, None, *rest, torch.Generator().manual_seed(1), STILL)
    assert seen.shape == (len(lot), 3, SIZE, SIZE, 4) and seen.dtype == torch.uint8
    plain = dataclasses.replace(lot.solids, kernels=None)
    again = around.other_sides(plain, scene, None, *rest, torch.Generator().manual_seed(1), STILL)
    assert ((seen.int() - again.int()).abs().amax(-1) > 4).float().mean() < 0.02
    # the back is the front in a mirror, as far as outlines of distant cameras go
    far = scene.cameras.clone()
    far[:, 0], far[:, 1], far[:, 5] = 0.0, 60.0, 0.0
    far = pictures.fit_windows(points, far[:, [0, 1, 5]])
    there = dataclasses.replace(scene, cameras=far)
    front = pictures.photograph(lot.solids, there, SIZE, halves=lot.halves)[..., 3]
    turned = around.turned(lot.solids, 2)
    mirrored = torch.cat([far[:, :2], -far[:, 2:3], far[:, 3:]], 1)
    back = pictures.photograph(turned, dataclasses.replace(there, cameras=mirrored), SIZE, halves=lot.halves)[..., 3]
    assert (front != back.flip(-1)).float().mean() < 0.01


def test_the_front_is_the_same_with_and_without_other_sides(lot: Lot):
    points = lot.points(64, torch.Generator().manual_seed(0))
    for looks in (pictures.RECIPE, pictures.VARIED):
        seen, side = lot.photograph(points, SIZE, torch.Generator().manual_seed(5), looks)
        same, same_side, others = lot.photograph_around(points, SIZE, torch.Generator().manual_seed(5), looks)
        assert torch.equal(seen, same) and torch.equal(side, same_side)
        again = lot.photograph_around(points, SIZE, torch.Generator().manual_seed(5), looks)[2]
        assert torch.equal(others, again)
        covered = (others[..., 3] > 0).float().mean((2, 3))
        assert float(covered.min()) > 0.01 and len({tuple(view.flatten().tolist()) for view in others[0]}) == 3


def test_light_stays_with_the_shape_or_with_the_camera(lot: Lot):
    points = lot.points(64, torch.Generator().manual_seed(0))
    scene = pictures.scene_of(pictures.fit_windows(points, lot.views), lot.lights, lot.materials)
    brightness = []
    for turning in (0.0, 1.0):
        walk = around.Walk(elevation=0.0, distance=0.0, turning=turning)
        generator = torch.Generator().manual_seed(1)
        others = around.other_sides(lot.solids, scene, None, points, lot.halves, SIZE, generator, walk)
        back = others[:, 1].float()
        brightness.append((back[..., :3].mean(-1) * (back[..., 3] > 0)).sum() / (back[..., 3] > 0).sum())
    assert brightness[0] < 0.9 * brightness[1], "the back is in the shade of a light that stays in front"
