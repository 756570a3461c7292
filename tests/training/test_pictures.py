"""Batched pictures against the benchmark's, and what the side targets must satisfy."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.shapes import CATEGORIES, look, render, shape
from training.generator import augment, pictures
from training.generator.solids import Solids
from training.generator.stream import Lot

SHAPES = [shape(name, 2) for name in list(CATEGORIES)[::8]]
SIZE = 42


def photographed() -> tuple[Solids, pictures.Scene, np.ndarray]:
    rng = np.random.default_rng(0)
    cameras, lights, materials, truth = [], [], [], []
    for number, item in enumerate(SHAPES):
        camera, light = look.random_camera(rng, item.surface(800)[:, :3]), look.random_light(rng)
        palette = look.random_materials(rng)
        palette[:, 6] = (np.arange(8) + 3 * number) % 7  # every pattern
        truth.append(render.render(item.rows, item.pose, camera, light, palette, SIZE))
        cameras.append(camera.row())
        lights.append(light.row())
        materials.append(palette)
    rows = (torch.tensor(np.stack(values), dtype=torch.float32) for values in (cameras, lights, materials))
    solids = Solids.pack([item.rows for item in SHAPES], [item.pose for item in SHAPES])
    return solids, pictures.scene_of(*rows), np.stack(truth)


def test_pictures_equal_the_benchmarks():
    solids, scene, truth = photographed()
    mine, _ = pictures.render(solids, scene, SIZE)
    difference = np.abs(mine.numpy().astype(int) - truth.astype(int)).max(-1)
    assert (difference > 2).mean() < 0.01  # a ray that grazes, a pattern's edge
    assert (mine.numpy()[..., 3] != truth[..., 3]).mean() < 0.004


def test_rays_that_miss_the_box_need_not_be_traced(lot: Lot):
    cameras = pictures.fit_windows(lot.points(200, torch.Generator().manual_seed(0)), lot.views)
    scene = pictures.scene_of(cameras, lot.lights, lot.materials)
    all_rays, side = pictures.render(lot.solids, scene, SIZE)
    fewer, same_side = pictures.render(lot.solids, scene, SIZE, halves=lot.halves)
    # rays start elsewhere, so colours differ by rounding, and by more only where one grazes
    difference = (all_rays.int() - fewer.int()).abs().amax(-1)
    assert (difference > 2).float().mean() < 0.01
    assert (side - same_side).abs().quantile(0.95) < 2e-3


def test_windows_are_fitted_as_the_benchmark_does():
    points = np.stack([item.surface(500)[:, :3] for item in SHAPES])
    cameras = [look.fit_camera(p, elevation=0.2, fov=0.6, roll=0.05) for p in points]
    views = torch.tensor([[camera.elevation, camera.distance, camera.roll] for camera in cameras]).float()
    fitted = pictures.fit_windows(torch.from_numpy(points).float(), views)
    torch.testing.assert_close(fitted, torch.tensor(np.stack([c.row() for c in cameras])).float(), rtol=0, atol=1e-5)
    shaken = pictures.jittered(fitted, torch.Generator().manual_seed(0))
    ratio = shaken[:, 4] / fitted[:, 4]
    assert bool(((ratio >= 0.964) & (ratio <= 1.044)).all()) and not torch.equal(shaken[:, 2:4], fitted[:, 2:4])


def test_side_targets_are_what_the_camera_cannot_show():
    solids, scene, _ = photographed()
    seen, side = pictures.render(solids, scene, SIZE)
    mask = side[..., 0] > 0
    middle = pictures.CELL_PX // 2
    assert torch.equal(mask, seen[:, middle :: pictures.CELL_PX, middle :: pictures.CELL_PX, 3] > 0)
    assert side.shape == (len(SHAPES), 6, 6, 6) and mask.any() and not mask.all()
    front, back, normal = side[..., 1][mask], side[..., 2][mask], side[..., 3:][mask]
    assert bool((front >= back - 1e-3).all()) and float((front - back).max()) > 0.2
    torch.testing.assert_close(normal.norm(dim=-1), torch.ones(len(normal)), rtol=0, atol=1e-3)
    assert front.abs().max() < 1.75 and bool((side[~mask] == 0).all())


def test_unlit_pictures_show_colours_only():
    solids, scene, _ = photographed()
    scene.materials[:, :, 3:6] = scene.materials[:, :, :3] = 0.5
    scene.materials[:, :, 10] = 0
    seen, _ = pictures.render(solids, pictures.without_light(scene), SIZE)
    assert set(seen[seen[..., 3] > 0][:, :3].unique().tolist()) <= {127, 128}


def test_looks_change_the_light_and_not_the_shape(lot: Lot):
    generator = torch.Generator().manual_seed(0)
    points = lot.points(64, generator)
    few = lot[:3]
    plain, side = few.photograph(points[:3], SIZE, torch.Generator().manual_seed(5))
    every = pictures.Looks(unlit=0.5, cel=1.0, coloured=1.0, patterned=1.0, shadows=1.0)
    changed, same_side = few.photograph(points[:3], SIZE, torch.Generator().manual_seed(5), every)
    torch.testing.assert_close(side, same_side)
    assert torch.equal(plain[..., 3], changed[..., 3])
    inside = plain[..., 3] > 0
    assert (plain[inside].float() - changed[inside].float()).abs().mean() > 3


def test_augmentation_keeps_the_ground_white_and_repeats():
    truth = photographed()[2]
    seen = torch.from_numpy(truth)
    for camera in (augment.RECIPE, augment.PHOTOGRAPHS):
        one, two = (augment.augment(seen, torch.Generator().manual_seed(7), camera) for _ in range(2))
        torch.testing.assert_close(one, two, rtol=0, atol=0)
        assert one.shape == (len(SHAPES), 3, SIZE, SIZE) and one.min() >= 0 and one.max() <= 1
        assert bool((one[:, :, 0, 0] > 0.98).all())
    plain = augment.on_white(seen)
    assert (one - plain).abs().mean() > 0.005
