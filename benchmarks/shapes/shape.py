"""One procedural shape: a known signed field in the model's frame, its surface and its pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

from benchmarks.shapes import folding, look
from benchmarks.shapes.categories import CATEGORIES, MORE
from benchmarks.shapes.render import render, silhouette, unlit_at
from benchmarks.shapes.sketch import MAX_PRIMITIVES, MORE_PRIMITIVES, Sketch, euler

SHAPES_PER_CATEGORY = 16
LONGEST_SIDE = 1.9
SEED = 20_260_000  # changes every shape; figures are comparable only between runs of one seed
FREELY_TURNED = ("solids", "blobs", "tool", "implement", "fitting")
_POINTS = 6000


@dataclass(frozen=True, eq=False)
class Shape:
    """A shape in the model's frame: y up, the camera on +z, box centred, longest side 1.9.

    rows: (N, ROW_FLOATS) primitives; pose: (13,), see ``folding``; stream: seeds of its surface, camera and materials
    """

    name: str
    rows: np.ndarray
    pose: np.ndarray
    stream: tuple[int, ...] = (0,)

    def field(self, points: np.ndarray) -> np.ndarray:
        """Signed distance estimate at (..., 3) points: (...) float32, positive inside."""
        flat = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        return folding.evaluate(self.rows, self.pose, flat).reshape(np.shape(points)[:-1])

    def surface(self, count: int = 4096) -> np.ndarray:
        """(count, 6) float64 points and outward unit normals, inner walls included; the same at every call."""
        return folding.surface_points(self.rows, self.pose, count, self._rng(1), half_box=1.0)

    def render(
        self,
        size_px: int,
        *,
        camera: look.Camera | None = None,
        light: look.Light | None = None,
        materials: np.ndarray | None = None,
        samples: int = 1,
    ) -> Image.Image:
        """A cut-out RGBA picture; what is not given is drawn at random as in training, always the same."""
        rng = self._rng(2)
        drawn = look.random_camera(rng, self._frame_points), look.random_light(rng), look.random_materials(rng)
        pixels = render(
            self.rows,
            self.pose,
            camera or drawn[0],
            light or drawn[1],
            drawn[2] if materials is None else materials,
            size_px,
            samples=samples,
        )
        return Image.fromarray(pixels)

    def albedo(self, points: np.ndarray, materials: np.ndarray | None = None) -> np.ndarray:
        """(N, 3) float32 sRGB colours without light at (N, 3) surface points; materials None: those of ``render``."""
        flat = np.ascontiguousarray(points, np.float64)
        return unlit_at(self.rows, self.pose, flat, self.materials if materials is None else materials)

    def silhouette(self, size_px: int, camera: look.Camera | None = None) -> np.ndarray:
        """(size_px, size_px) bool from the camera of ``render``, or another."""
        return silhouette(self.rows, self.pose, camera or self.camera, size_px)

    def turned(self, side: int) -> Shape:
        """The same shape with that one of ``look.SIDES`` in front. Camera and materials are drawn as before, the window
        is fitted anew; the light stays where it was, as when something is turned before the camera."""
        axes, signs = look.QUARTER_TURNS[side]
        pose = self.pose.copy()
        for vector in pose[:9].reshape(3, 3), pose[9:12]:
            vector[...] = vector[..., axes] * np.array(signs)
        return replace(self, pose=pose)

    @property
    def camera(self) -> look.Camera:
        """The camera that ``render`` draws."""
        return look.random_camera(self._rng(2), self._frame_points)

    @property
    def materials(self) -> np.ndarray:
        """(8, 11) the materials that ``render`` draws."""
        rng = self._rng(2)
        look.random_camera(rng, self._frame_points)  # drawn before them
        look.random_light(rng)
        return look.random_materials(rng)

    def camera_at(self, elevation_deg: float, fov_deg: float, *, border: float = look.BORDER) -> look.Camera:
        """A level camera in front, framing the shape."""
        return look.fit_camera(
            self._frame_points, elevation=math.radians(elevation_deg), fov=math.radians(fov_deg), border=border
        )

    @cached_property
    def _frame_points(self) -> np.ndarray:
        return self.surface(_POINTS)[:, :3]

    def _rng(self, use: int) -> np.random.Generator:
        return np.random.default_rng([*self.stream, use])


def shape(category: str, index: int) -> Shape:
    """Shape number ``index`` of a category: a pure function of both.

    Indices from 0; the fixed evaluation set has SHAPES_PER_CATEGORY of each of the 24 CATEGORIES. Those of MORE are
    made in the same way and belong to no published figure.
    Draws that leave next to nothing (all cut away, or flat) are drawn again.
    """
    known = CATEGORIES | MORE
    if category not in known:
        raise KeyError(f"unknown category '{category}'; categories are {', '.join(known)}")
    kind = list(known).index(category)
    limit = MAX_PRIMITIVES if category in CATEGORIES else MORE_PRIMITIVES
    for attempt in range(32):
        stream = (SEED, kind, index, attempt)
        rng = np.random.default_rng([*stream, 0])
        turn = random_turn(category, rng)
        made = normalised(f"{category}-{index}", known[category], rng, turn, stream, limit=limit)
        if made is not None:
            return made
    raise AssertionError(f"category '{category}' makes no shapes")


def sculpt(name: str, draw: Callable[[Sketch], None], *, yaw_deg: float = 0.0) -> Shape:
    """A shape from a sketch function, turned about y; for pictures made by hand."""
    made = normalised(name, draw, np.random.default_rng(0), euler(0, math.radians(yaw_deg), 0), (0,))
    assert made is not None, f"'{name}' has no surface"
    return made


def normalised(
    name: str,
    draw: Callable[[Sketch], None],
    rng: np.random.Generator,
    rotation: np.ndarray,
    stream: tuple[int, ...],
    *,
    limit: int = MAX_PRIMITIVES,
) -> Shape | None:
    """Draw, turn, centre and scale to LONGEST_SIDE; None when too little surface is there."""
    sketch = Sketch(rng, limit)
    draw(sketch)
    rows = np.array(sketch.rows)
    pose = np.zeros(folding.POSE_FLOATS)
    pose[:9], pose[12] = rotation.T.ravel(), 1.0
    box = folding.bounding_box(rows, pose, np.random.default_rng([*stream, 3]))
    if box is None:
        return None
    low, high = box
    longest = float((high - low).max())
    if not 0.3 < longest < 6.0:
        return None
    pose[9:12], pose[12] = (low + high) / 2, longest / LONGEST_SIDE
    return Shape(name, rows, pose, stream)


def random_turn(category: str, rng: np.random.Generator) -> np.ndarray:
    """Yaw 0 (30 %), within 60 degrees (45 %), any (25 %); a slight tilt, or a free one for some categories."""
    kind = rng.random()
    limit = 0.0 if kind < 0.3 else (1.05 if kind < 0.75 else math.pi)
    yaw = rng.uniform(-limit, limit) if limit else 0.0
    if category in FREELY_TURNED and rng.random() < 0.4:
        return euler(rng.uniform(-1.2, 1.2), yaw, rng.uniform(-1.6, 1.6))
    return euler(*(rng.normal(0, 0.03), yaw, rng.normal(0, 0.03)))
