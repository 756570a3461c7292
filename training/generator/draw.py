"""Drawing what a training shape is made of, through ``benchmarks.shapes``: parts, turn, light, materials, camera.

One source of truth for the distributions: the categories and looks there. Only how often each category comes is said
here, since the benchmark has the same number of each. Block number b of a seed is a function of both, so that worker
processes may draw ahead and a run can go on from where it stopped. Nothing here evaluates a field.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing import get_context

import numpy as np

from benchmarks.shapes import look
from benchmarks.shapes.categories import CATEGORIES, MORE
from benchmarks.shapes.folding import POSE_FLOATS
from benchmarks.shapes.primitives import ROW_FLOATS
from benchmarks.shapes.shape import random_turn
from benchmarks.shapes.sketch import MAX_PRIMITIVES, MORE_PRIMITIVES, Sketch

# How often a category comes; the sum is 23.9 and means nothing.
WEIGHTS: dict[str, float] = {
    "vase": 1.2, "mug": 0.8, "teapot": 0.6, "chair": 1.4, "table": 1.0, "shelf": 0.8, "sofa": 0.7, "house": 1.1,
    "tower": 0.9, "car": 1.3, "plane": 0.9, "ship": 0.6, "quadruped": 1.6, "biped": 1.6, "bird": 1.0, "fish": 0.6,
    "tree": 1.0, "mushroom": 0.5, "fruit": 0.5, "tool": 0.9, "device": 0.9, "solids": 1.6, "blobs": 1.2,
    "silhouettes": 1.2,
}  # fmt: skip
# The next step: the same, weak categories more often, and those that came later.
BROAD: dict[str, float] = WEIGHTS | {
    "tool": 1.6, "solids": 2.6, "blobs": 2.0, "device": 1.3, "chair": 1.6, "mug": 1.0, "plane": 1.1, "quadruped": 1.8,
    "person": 3.2, "bust": 0.8, "plush": 1.6, "implement": 1.6, "frame": 1.4, "machine": 1.6,
    "fitting": 1.4,
}  # fmt: skip
ALL = CATEGORIES | MORE
# First word of every training seed. The benchmark's streams begin with another number, so no held-out shape is drawn.
TRAINING = 7_411_001
BLOCK = 256
# A camera's window is fitted on the device, to the shape's own points; any points do for drawing the rest of it.
_ANY_POINTS = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


@dataclass(frozen=True)
class Drawn:
    """N drawn shapes, float32: what ``Solids`` and ``pictures`` need, before centring and scaling.

    rows: (N, MORE_PRIMITIVES, ROW_FLOATS); counts, categories: (N,) int64, the latter numbers of ALL
    poses: (N, POSE_FLOATS), turned only; views: (N, 3) elevation, distance and roll of a camera
    lights: (N, 9); materials: (N, 8, MATERIAL_FLOATS), see ``benchmarks.shapes.look``
    """

    rows: np.ndarray
    counts: np.ndarray
    categories: np.ndarray
    poses: np.ndarray
    views: np.ndarray
    lights: np.ndarray
    materials: np.ndarray


def draw_block(seed: int, block: int, size: int = BLOCK, weights: dict[str, float] | None = None) -> Drawn:
    """Block number ``block`` of a seed: a pure function of the arguments.

    weights: how often each category comes; WEIGHTS when None
    """
    chances = np.array([(weights or WEIGHTS).get(name, 0.0) for name in ALL])
    rng = np.random.default_rng([TRAINING, seed, block])
    kinds = rng.choice(len(ALL), size, p=chances / chances.sum())
    drawn = Drawn(
        rows=np.zeros((size, MORE_PRIMITIVES, ROW_FLOATS), np.float32),
        counts=np.zeros(size, np.int64),
        categories=kinds.astype(np.int64),
        poses=np.zeros((size, POSE_FLOATS), np.float32),
        views=np.zeros((size, 3), np.float32),
        lights=np.zeros((size, 9), np.float32),
        materials=np.zeros((size, look.NUM_MATERIALS, look.MATERIAL_FLOATS), np.float32),
    )
    names = list(ALL)
    for index, kind in enumerate(kinds):
        sketch = Sketch(rng, MAX_PRIMITIVES if names[kind] in CATEGORIES else MORE_PRIMITIVES)
        ALL[names[kind]](sketch)
        drawn.rows[index, : len(sketch.rows)] = sketch.rows
        drawn.counts[index] = len(sketch.rows)
        drawn.poses[index, :9], drawn.poses[index, 12] = random_turn(names[kind], rng).T.ravel(), 1.0
        camera = look.random_camera(rng, _ANY_POINTS)
        drawn.views[index] = camera.elevation, camera.distance, camera.roll
        drawn.lights[index] = look.random_light(rng).row()
        drawn.materials[index] = look.random_materials(rng)
    return drawn


@contextmanager
def blocks(
    seed: int,
    first: int = 0,
    *,
    size: int = BLOCK,
    workers: int = 0,
    weights: dict[str, float] | None = None,
    stride: int = 1,
) -> Iterator[Iterator[Drawn]]:
    """Every ``stride``-th block of a seed from number ``first`` on, without end; ``workers`` processes draw ahead,
    0 draws here."""
    if workers == 0:
        yield (draw_block(seed, number, size, weights) for number in count(first, stride))
        return
    # spawned, not forked: the parent holds threads and perhaps a device
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=deaf_to_signals) as pool:
        try:
            yield _ahead(pool, seed, count(first, stride), size, weights, 2 * workers)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def deaf_to_signals() -> None:
    """For a helper process: a signal to the whole group (Ctrl-C, timeout) is for the trainer, which finishes its step
    and needs the helpers until then; they end with its pool."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _ahead(
    pool: ProcessPoolExecutor,
    seed: int,
    numbers: Iterator[int],
    size: int,
    weights: dict[str, float] | None,
    depth: int,
) -> Iterator[Drawn]:
    waiting: list[Future[Drawn]] = []
    for number in numbers:
        waiting.append(pool.submit(draw_block, seed, number, size, weights))
        if len(waiting) >= depth:
            yield waiting.pop(0).result()
