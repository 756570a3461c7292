"""Drawing and streaming: the same seed gives the same shapes, also from the middle and through worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest
import torch

from benchmarks.shapes import CATEGORIES, shape
from training.generator import draw
from training.generator.stream import Lot, ShapeStream, field_batch

CPU = torch.device("cpu")


def stream(block: int = 0, offset: int = 0) -> ShapeStream:
    source = (draw.draw_block(9, number, 4) for number in range(block, 100))
    return ShapeStream(source, CPU, 9, block=block, offset=offset)


def same(one: Lot, two: Lot) -> None:
    torch.testing.assert_close(one.solids.poses, two.solids.poses, rtol=0, atol=0)
    torch.testing.assert_close(one.materials, two.materials, rtol=0, atol=0)
    assert one.categories.tolist() == two.categories.tolist()


def test_blocks_are_a_function_of_seed_and_number():
    first, again, other = draw.draw_block(1, 2, 8), draw.draw_block(1, 2, 8), draw.draw_block(1, 3, 8)
    for name in first.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.rows, other.rows)


def test_categories_come_as_often_as_their_weights_say():
    assert set(draw.WEIGHTS) == set(CATEGORIES)
    assert abs(sum(draw.WEIGHTS.values()) - 23.9) < 1e-9
    assert set(draw.BROAD) == set(draw.ALL) and all(draw.BROAD[name] >= weight for name, weight in draw.WEIGHTS.items())
    kinds = draw.draw_block(0, 0, 32, weights={"mug": 3.0, "tool": 1.0}).categories
    names = [list(CATEGORIES)[kind] for kind in kinds]
    assert set(names) == {"mug", "tool"} and names.count("mug") > names.count("tool")


def test_no_held_out_shape_is_drawn():
    drawn = draw.draw_block(0, 0, 64)
    shapes = {rows[:count].tobytes() for rows, count in zip(drawn.rows, drawn.counts, strict=True)}
    held_out = {
        shape(name, index).rows.astype(np.float32).tobytes() for name in list(CATEGORIES)[::4] for index in range(2)
    }
    assert len(shapes) == 64 and not shapes & held_out


def test_a_broad_block_has_later_categories_and_room_for_their_parts():
    drawn = draw.draw_block(0, 0, 200, weights=draw.BROAD)
    names = [list(draw.ALL)[kind] for kind in drawn.categories]
    assert set(names) & set(draw.ALL) - set(CATEGORIES)
    assert drawn.counts.max() > draw.MAX_PRIMITIVES - 4 and drawn.counts.max() <= drawn.rows.shape[1]
    again = draw.draw_block(0, 0, 200, weights=draw.BROAD)
    np.testing.assert_array_equal(drawn.rows, again.rows)
    assert set(draw.draw_block(0, 0, 64).categories) <= set(range(len(CATEGORIES))), "the recipe stays what it was"


def test_worker_processes_draw_the_same():
    with draw.blocks(3, 5, size=4, workers=1) as source:
        ahead = [next(source) for _ in range(2)]
    with draw.blocks(3, 5, size=4) as source:
        here = [next(source) for _ in range(2)]
    for one, two in zip(ahead, here, strict=True):
        np.testing.assert_array_equal(one.rows, two.rows)
        np.testing.assert_array_equal(one.lights, two.lights)


def test_a_stream_goes_on_from_its_place():
    whole = stream()
    whole.take(3)
    place = whole.place()
    rest = whole.take(3)
    same(stream(**place).take(3), rest)
    assert len(rest) == 3 and place != {"block": 0, "offset": 0}


def test_a_field_batch_repeats_with_its_generator(lot: Lot):
    one, two = (field_batch(lot, 32, 16, torch.Generator().manual_seed(1)) for _ in range(2))
    for name in ("surface", "points", "values"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=0, atol=0)
    other = field_batch(lot, 32, 16, torch.Generator().manual_seed(2))
    assert not torch.equal(one.points, other.points)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_workers_outlive_a_signal_to_the_whole_group():
    """timeout and Ctrl-C reach helpers too; the trainer still has a step to finish."""
    with draw.blocks(3, 0, size=2, workers=1) as source:
        next(source)
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGTERM)
        for _ in range(3):
            next(source)
