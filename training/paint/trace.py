"""One training object: what the six official cameras see of it without light, and one lit picture.

Traced from the signed field by the benchmark's own functions, encoded as ``hy3dgen.rendering.maps`` encodes those of
a mesh (equality with a rasterised mesh is tested). Runs in worker processes, on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from benchmarks.shapes import CATEGORIES, look
from benchmarks.shapes.folding import POSE_FLOATS, surface_points
from benchmarks.shapes.render import render
from benchmarks.shapes.shape import LONGEST_SIDE, Shape, random_turn
from benchmarks.shapes.sketch import Sketch
from hy3dgen.texgen.config import VIEWS_DEG
from hy3dgen.texgen.views import recenter, squared
from training.generator.draw import WEIGHTS
from training.generator.orthographic import MAP_CHANNELS, draw_maps, frame_rows, view_rows

TRAINING = 7_411_010
"""First word of every seed of a training object; those of the benchmark's and of the shape model's data differ."""
VIEW_PX = 128
VIEWS = view_rows(VIEWS_DEG)
POINTS = 1000
SMALLEST_PX = 6  # a picture that shows less of the object teaches nothing


def picture_px(size_px: int) -> int:
    """Pixels at which a training picture is traced: more than what is left of it after recentring, so that its edges
    are soft."""
    return size_px * 5 // 4


@dataclass(frozen=True)
class Scene:
    """One object, uint8. maps: (6, 9, S, S) albedo, normal and position of each official view, white where there is
    nothing; picture: (4, S, S) lit RGBA, cut out and recentred as the paint pipeline does it."""

    maps: np.ndarray
    picture: np.ndarray


def training_scene(seed: int, number: int, size_px: int = VIEW_PX) -> Scene:
    """Object number ``number`` of a seed: a pure function of the arguments."""
    names, chances = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    for attempt in range(32):
        stream = (TRAINING, seed, number, attempt)
        rng = np.random.default_rng(stream)
        name = names[rng.choice(len(names), p=chances / chances.sum())]
        made = _roughly_normalised(name, rng, stream)
        found = None if made is None else _photographed(*made, np.random.default_rng([*stream, 9]), size_px)
        if found is not None:
            return found
    raise AssertionError("32 draws in a row left next to nothing")


def _roughly_normalised(
    name: str, rng: np.random.Generator, stream: tuple[int, ...]
) -> tuple[Shape, np.ndarray] | None:
    """A shape of the category and (N, 3) points of its surface, the box of which is centred and scaled.

    The benchmark searches the tips, too, which takes most of its time; painting does not need them.
    """
    sketch = Sketch(rng)
    CATEGORIES[name](sketch)
    rows, pose = np.array(sketch.rows), np.zeros(POSE_FLOATS)
    pose[:9], pose[12] = random_turn(name, rng).T.ravel(), 1.0
    points = surface_points(rows, pose, POINTS, np.random.default_rng([*stream, 3]), half_box=1.7)[:, :3]
    if len(points) < POINTS // 2:
        return None
    low, high = points.min(0), points.max(0)
    longest = float((high - low).max())
    if not 0.3 < longest < 6.0:
        return None
    pose[9:12], pose[12] = (low + high) / 2, longest / LONGEST_SIDE
    return Shape(name, rows, pose, stream), (points - pose[9:12]) / pose[12]


def _photographed(solid: Shape, points: np.ndarray, rng: np.random.Generator, size_px: int) -> Scene | None:
    """Camera, light and materials drawn as in ``benchmarks.shapes``; None when nothing can be seen."""
    camera, light = look.random_camera(rng, points), look.random_light(rng)
    materials = look.random_materials(rng)
    pixels = render(solid.rows, solid.pose, camera, light, materials, picture_px(size_px))
    picture = ready_picture(Image.fromarray(pixels), size_px)
    return None if picture is None else Scene(traced_maps(solid, points, materials, size_px), picture)


def held_out_scene(solid: Shape, size_px: int = VIEW_PX) -> Scene:
    """A benchmark shape with the camera, light and materials of its published picture."""
    picture = ready_picture(solid.render(2 * size_px), size_px)
    assert picture is not None, f"the picture of {solid.name} shows nothing"
    return Scene(traced_maps(solid, solid.surface(6000)[:, :3], solid.materials, size_px), picture)


def ready_picture(picture: Image.Image, size_px: int) -> np.ndarray | None:
    """(4, S, S) uint8 of a cut-out RGBA picture, recentred as the paint pipeline recentres it; None if hardly seen."""
    alpha = np.asarray(picture.getchannel("A"))
    if min((alpha > 127).any(axis=0).sum(), (alpha > 127).any(axis=1).sum()) < SMALLEST_PX:
        return None
    centred = squared(recenter(picture)).resize((size_px, size_px))
    return np.ascontiguousarray(np.asarray(centred).transpose(2, 0, 1))


def traced_maps(solid: Shape, points: np.ndarray, materials: np.ndarray, size_px: int) -> np.ndarray:
    """(6, 9, S, S) uint8. points: (N, 3) of the surface, from which the framing sphere is measured."""
    maps = np.empty((len(VIEWS), MAP_CHANNELS, size_px, size_px), np.uint8)
    frame = frame_rows(torch.from_numpy(points)[None])[0].numpy()
    draw_maps(solid.rows, solid.pose, materials, frame, VIEWS, maps)
    return maps
