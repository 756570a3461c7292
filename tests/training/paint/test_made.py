"""Scenes made by the generator's kernels: the same maps and pictures as those traced one by one, none used often."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from benchmarks.shapes.shape import Shape
from training.generator.draw import draw_block
from training.generator.stream import Lot, block_generator, normalised_lot
from training.paint.__main__ import main
from training.paint.made import MadePool, made_scenes, opened_here
from training.paint.pool import CHANNELS, unpacked
from training.paint.recentre import recentred
from training.paint.trace import ready_picture, traced_maps

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lot() -> Lot:
    return normalised_lot(draw_block(6, 0, 5), CPU, block_generator(CPU, 6, 0))


@pytest.fixture(scope="module")
def points(lot) -> torch.Tensor:
    return lot.points(500, torch.Generator().manual_seed(0))[..., :3]


def test_maps_are_those_that_are_traced(lot, points):
    scenes = unpacked(made_scenes(lot, points, 48))
    assert len(scenes) == len(lot)
    for index in range(len(lot)):
        rows, pose = lot.solids.rows[index, : lot.solids.counts[index]], lot.solids.poses[index]
        solid = Shape("any", rows.double().numpy(), pose.double().numpy())
        where, materials = points[index].double().numpy(), lot.materials[index].double().numpy()
        traced = torch.from_numpy(traced_maps(solid, where, materials, 48)).float()
        for made, part in ((scenes.albedo, 0), (scenes.normals, 3), (scenes.positions, 6)):
            difference = (255 * made[index] - traced[:, part : part + 3]).abs().amax(1)
            assert (difference > 1.5).float().mean() < 0.01  # a ray that grazes, a pattern's edge


@pytest.mark.parametrize("box", [(3, 20, 60, 40), (0, 0, 79, 79), (30, 10, 45, 70), (40, 41, 47, 48)])
def test_pictures_are_recentred_as_pillow_does_it(box):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)).convert("RGBA")
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    picture.putalpha(mask)
    wanted = ready_picture(picture, 64)
    made, good = recentred(torch.from_numpy(np.array(picture))[None], 64)
    assert wanted is not None and bool(good)
    one, two = made[0].int(), torch.from_numpy(wanted).int()
    assert (one[3] - two[3]).abs().max() <= 1
    difference = (one[:3] * one[3:] - two[:3] * two[3:]).abs() / 255
    assert difference.max() <= 2
    assert (difference > 1).float().mean() < 0.01


def test_pictures_that_show_next_to_nothing_are_left_out():
    pictures = torch.zeros(3, 40, 40, 4, dtype=torch.uint8)
    pictures[0, 3:30, 5:30], pictures[1, 3:30, 5:9] = 255, 255
    assert recentred(pictures, 32)[1].tolist() == [True, False, False]


class Counted:
    """Scenes that hold their own number, some of every batch left out."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, count: int) -> torch.Tensor:
        count = max(count - self.made % 2, 1)
        numbers = torch.arange(self.made, self.made + count)
        self.made += count
        return numbers.to(torch.uint8)[:, None, None, None].expand(-1, CHANNELS, 4, 4)

    def place(self) -> dict[str, int]:
        return {"block": self.made // 8, "offset": self.made % 8}


@pytest.mark.parametrize(("reuse", "most"), [(1.0, 1), (2.0, 2), (2.5, 3)])
def test_no_scene_is_used_more_often_than_asked(reuse, most):
    source, generator = Counted(), torch.Generator().manual_seed(0)
    pool = MadePool(source, source.place, CPU, capacity=40, reuse=reuse, at_once=6, size_px=4)
    pool.wait_for(20)
    seen: list[int] = []
    for _ in range(20):
        seen += (255 * pool.take(5, generator).picture[:, 0, 0, 0]).round().int().tolist()
    numbers, uses = np.unique(seen, return_counts=True)
    assert uses.max() <= most and len(numbers) >= 100 / most
    assert source.made >= 100 / reuse and pool.traced == source.made
    assert 1 <= pool.uses_now <= most and pool.figures()["most_uses"] <= most
    with pool.unnoticed():
        before = pool._uses.clone()
        pool.take(5, generator)
    assert torch.equal(before, pool._uses) and pool.traced == source.made


def test_the_stream_goes_on_behind_what_was_used():
    def begun(first: int) -> tuple[torch.Tensor, dict[str, int]]:
        with opened_here(CPU, 4, first=first, capacity=8, workers=0, block=4, at_once=3, size_px=16) as (pool, _):
            pool.wait_for(6)
            return pool._scenes[:6].clone(), pool.place()

    scenes, place = begun(0)
    again, _ = begun(0)
    assert torch.equal(scenes, again)
    assert place["offset"] == 0 and place["block"] >= 2
    later, _ = begun(place["block"])
    assert not any(torch.equal(one, two) for one in scenes for two in later)


def test_both_phases_learn_from_scenes_made_here(tmp_path):
    out = tmp_path / "run"
    sizes = ["--batch", "2", "--vae-batch", "2", "--pool", "8", "--least", "4", "--log-every", "1", "--ahead", "4"]
    micro = ["--view-px", "32", "--vae-widths", "8", "8", "16", "--unet-widths", "16", "16", "--device", "cpu"]
    chosen = ["--scenes", "device", "--block", "8", "--reuse", "2", "--seed", "1"]
    assert main(["vae", "--out", str(out), "--steps", "6", *sizes, *micro, *chosen]) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    (pool,) = [line for line in lines if line["kind"] == "pool"]
    assert pool["scenes"] >= 6 and pool["most_uses"] <= 2
    assert all(1 <= line["uses"] <= 2 for line in lines if line["kind"] == "paint_vae")
