"""One training object: what the six official cameras see of it without light, and one lit picture.

Traced from the signed field by the benchmark's own functions, encoded as ``hy3dgen.rendering.maps`` encodes those of
a mesh (equality with a rasterised mesh is tested). Runs in worker processes; knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from PIL import Image

from benchmarks.shapes import CATEGORIES, look
from benchmarks.shapes.folding import POSE_FLOATS, fold, gradient, surface_points
from benchmarks.shapes.render import render, unlit
from benchmarks.shapes.shape import LONGEST_SIDE, Shape, random_turn
from benchmarks.shapes.sketch import Sketch
from hy3dgen.rendering.cameras import SCALE_FACTOR, View
from hy3dgen.texgen.config import VIEWS_DEG
from hy3dgen.texgen.views import recenter, squared
from training.generator.draw import WEIGHTS

TRAINING = 7_411_010
"""First word of every seed of a training object; those of the benchmark's and of the shape model's data differ."""
VIEW_PX = 128
MAP_CHANNELS = 9  # albedo, normal, position
POINTS = 1000
_ROOM = 0.04  # around the box of these points: tips may lie between them
_SMALLEST_PX = 6  # a picture that shows less of the object teaches nothing
_FAST: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


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
    picture_px = size_px * 5 // 4  # larger than what is left of it after recentring, so that its edges are soft
    picture = ready_picture(
        Image.fromarray(render(solid.rows, solid.pose, camera, light, materials, picture_px)), size_px
    )
    return None if picture is None else Scene(traced_maps(solid, points, materials, size_px), picture)


def held_out_scene(solid: Shape, size_px: int = VIEW_PX) -> Scene:
    """A benchmark shape with the camera, light and materials of its published picture."""
    picture = ready_picture(solid.render(2 * size_px), size_px)
    assert picture is not None, f"the picture of {solid.name} shows nothing"
    return Scene(traced_maps(solid, solid.surface(6000)[:, :3], solid.materials, size_px), picture)


def ready_picture(picture: Image.Image, size_px: int) -> np.ndarray | None:
    """(4, S, S) uint8 of a cut-out RGBA picture, recentred as the paint pipeline recentres it; None if hardly seen."""
    alpha = np.asarray(picture.getchannel("A"))
    if min((alpha > 127).any(axis=0).sum(), (alpha > 127).any(axis=1).sum()) < _SMALLEST_PX:
        return None
    centred = squared(recenter(picture)).resize((size_px, size_px))
    return np.ascontiguousarray(np.asarray(centred).transpose(2, 0, 1))


def traced_maps(solid: Shape, points: np.ndarray, materials: np.ndarray, size_px: int) -> np.ndarray:
    """(6, 9, S, S) uint8. points: (N, 3) of the surface, from which the framing sphere is measured."""
    centre = (points.max(0) + points.min(0)) / 2
    scale = SCALE_FACTOR / (2 * np.linalg.norm(points - centre, axis=1).max())
    half_box = (points.max(0) - points.min(0)) / 2 + _ROOM
    maps = np.empty((len(VIEWS_DEG), MAP_CHANNELS, size_px, size_px), np.uint8)
    for number, (azimuth, elevation) in enumerate(VIEWS_DEG):
        view = View(azimuth, elevation)
        to_world = np.linalg.inv(view.matrix().astype(np.float64))
        out = _orthographic(
            solid.rows, solid.pose, materials, to_world, view.ortho_scale, float(scale), centre, half_box, SCALE_FACTOR,
            size_px,
        )  # fmt: skip
        maps[number] = (np.clip(out, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)
    return maps


@njit(**_FAST)
def _orthographic(
    rows: np.ndarray,
    pose: np.ndarray,
    materials: np.ndarray,
    to_world: np.ndarray,
    window: float,
    scale: float,
    centre: np.ndarray,
    half_box: np.ndarray,
    sphere: float,
    size: int,
) -> np.ndarray:
    """(size, size, 9) in [0, 1]. to_world: (4, 4) camera space to renderer space; scale, centre: of the framing;
    half_box: (3,) beyond which there is nothing, in file space."""
    out = np.ones((size, size, 9))
    wx, wy, wz = -to_world[0, 2], -to_world[1, 2], -to_world[2, 2]  # the camera looks along -z
    dx, dy, dz = -wx, -wz, wy  # renderer space to file space, see rendering.cameras
    for r in range(size):
        for c in range(size):
            cx = (2.0 * c / (size - 1) - 1.0) * 0.5 * window
            cy = (2.0 * r / (size - 1) - 1.0) * 0.5 * window
            # where the ray passes the plane through the origin, in renderer space
            px = to_world[0, 0] * cx + to_world[0, 1] * cy
            py = to_world[1, 0] * cx + to_world[1, 1] * cy
            pz = to_world[2, 0] * cx + to_world[2, 1] * cy
            ox, oy, oz = -px / scale + centre[0], -pz / scale + centre[1], py / scale + centre[2]
            t, end = _within(half_box, ox - centre[0], oy - centre[1], oz - centre[2], dx, dy, dz)
            hit = False
            if t >= end:
                continue
            for _ in range(192):
                d = fold(rows, pose, ox + t * dx, oy + t * dy, oz + t * dz)[0]
                if d < 1e-3:
                    hit = True
                    break
                t += 0.95 * d
                if t > end:
                    break
            if not hit:
                continue
            x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
            red, green, blue = unlit(rows, pose, x, y, z, materials)
            _, nx, ny, nz = gradient(rows, pose, x, y, z)
            q = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-4)
            out[r, c, 0] = min(max(red, 0.0), 1.0)
            out[r, c, 1] = min(max(green, 0.0), 1.0)
            out[r, c, 2] = min(max(blue, 0.0), 1.0)
            # maps hold inward normals of renderer space (-x, z, -y), and 0.5 - position / sphere
            out[r, c, 3], out[r, c, 4], out[r, c, 5] = 0.5 + 0.5 * nx * q, 0.5 - 0.5 * nz * q, 0.5 + 0.5 * ny * q
            out[r, c, 6] = 0.5 + (x - centre[0]) * scale / sphere
            out[r, c, 7] = 0.5 - (z - centre[2]) * scale / sphere
            out[r, c, 8] = 0.5 + (y - centre[1]) * scale / sphere
    return out


@njit(**_FAST)
def _within(half: np.ndarray, ox: float, oy: float, oz: float, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Where a ray enters and leaves a box around the origin; the second is smaller when it misses."""
    enter, leave = -1e9, 1e9
    for axis in range(3):
        o = ox if axis == 0 else (oy if axis == 1 else oz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        if abs(d) < 1e-9:
            if abs(o) > half[axis]:
                return 1.0, 0.0
            continue
        one, two = (-half[axis] - o) / d, (half[axis] - o) / d
        enter, leave = max(enter, min(one, two)), min(leave, max(one, two))
    return enter, leave
