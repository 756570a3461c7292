"""How a procedural shape is photographed: camera, light and materials, at random as in training, or set by hand."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import numpy as np

BORDER = 0.15
NUM_MATERIALS = 8
PATTERNS = ("plain", "stripes_y", "stripes_x", "checker", "gradient_y", "spots", "noise")
# The four sides of an object in the order in which a camera passes them, see ``rendering.cameras.AZIMUTH_DEG``; and how
# a point of the model's frame reads from each, with the camera on +z again: which axes, with which signs.
SIDES = ("front", "left", "back", "right")
QUARTER_TURNS = (
    ((0, 1, 2), (1, 1, 1)),
    ((2, 1, 0), (-1, 1, 1)),
    ((0, 1, 2), (-1, 1, -1)),
    ((2, 1, 0), (1, 1, -1)),
)
# columns of a material: two colours, pattern, its scale and phase, specular, fine noise
MATERIAL_FLOATS = 11


@dataclass(frozen=True)
class Camera:
    """A camera in the plane x = 0 that looks at the origin, with a shifted window.

    elevation: radians above the horizon; distance: to the origin; centre: (u, v) of the window and half_size: its half
    width, all in tangents; roll: radians
    """

    elevation: float
    distance: float
    centre: tuple[float, float]
    half_size: float
    roll: float = 0.0

    def row(self) -> np.ndarray:
        return np.array([self.elevation, self.distance, *self.centre, self.half_size, self.roll])


@dataclass(frozen=True)
class Light:
    """A key light, sky light with ambient occlusion, a darkened rim, and ``flat`` = the share that is unlit."""

    direction: tuple[float, float, float]
    key: float = 0.7
    ambient: float = 0.5
    specular: float = 0.3
    occlusion: float = 0.5
    flat: float = 0.0
    rim: float = 0.1

    def row(self) -> np.ndarray:
        x, y, z = np.asarray(self.direction) / np.linalg.norm(self.direction)
        return np.array([x, y, z, self.key, self.ambient, self.specular, self.occlusion, self.flat, self.rim])


def fit_camera(
    points: np.ndarray, *, elevation: float, fov: float, roll: float = 0.0, far: float = 1.0, border: float = BORDER
) -> Camera:
    """A camera whose window frames the projected points, leaving ``border`` of the picture free.

    points: (N, 3) of the normalised frame; elevation, fov, roll in radians; ``far`` multiplies the distance
    """
    distance = 1.25 / math.tan(fov / 2) * far
    u, v = project(points, elevation, distance)
    c, s = math.cos(roll), math.sin(roll)
    u, v = c * u + s * v, c * v - s * u
    half = max(np.ptp(u), np.ptp(v)) / 2 / (1 - border)
    mu, mv = (u.min() + u.max()) / 2, (v.min() + v.max()) / 2
    return Camera(elevation, distance, (c * mu - s * mv, s * mu + c * mv), float(half), roll)


def project(points: np.ndarray, elevation: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) points to tangents (u right, v up) of a camera at that elevation and distance, before its window."""
    c, s = math.cos(elevation), math.sin(elevation)
    x, y, z = points[:, 0], points[:, 1] - distance * s, points[:, 2] - distance * c
    depth = -(y * s + z * c)
    return x / depth, (y * c - z * s) / depth


def random_camera(rng: np.random.Generator, points: np.ndarray) -> Camera:
    """Elevation -6..26 degrees (15 % level), field of view 18..50 degrees (10 % nearly parallel), some roll."""
    elevation = 0.0 if rng.random() < 0.15 else math.radians(rng.uniform(-6, 26))
    fov = math.radians(rng.uniform(18, 50))
    far = 4.0 if rng.random() < 0.1 else 1.0
    roll = rng.uniform(-0.07, 0.07) if rng.random() < 0.4 else 0.0
    return fit_camera(points, elevation=elevation, fov=fov, roll=roll, far=far)


def random_light(rng: np.random.Generator) -> Light:
    """One key light in the front hemisphere; 12 % of the pictures are partly unlit."""
    azimuth, up = rng.uniform(-1.3, 1.3), rng.uniform(-0.1, 1.2)
    direction = (math.sin(azimuth) * math.cos(up), math.sin(up), math.cos(azimuth) * math.cos(up))
    return Light(
        direction,
        key=rng.uniform(0.35, 1.1),
        ambient=rng.uniform(0.25, 0.8),
        specular=rng.uniform(0, 0.7),
        occlusion=rng.uniform(0, 0.9),
        flat=rng.random() if rng.random() < 0.12 else 0.0,
        rim=rng.uniform(0, 0.5),
    )


def material(
    colour: tuple[float, float, float],
    second: tuple[float, float, float] | None = None,
    *,
    pattern: str = "plain",
    scale: float = 10.0,
    phase: float = 0.0,
    specular: float = 0.0,
    noise: float = 0.0,
) -> np.ndarray:
    """(11,) one material; colours are sRGB in [0, 1]."""
    return np.array([*colour, *(second or colour), PATTERNS.index(pattern), scale, phase, specular, noise])


def random_materials(rng: np.random.Generator) -> np.ndarray:
    """(8, 11): a palette around one hue, 25 % grey, 12 % all grey, 25 % one material for all, 35 % patterned."""
    rows = np.zeros((NUM_MATERIALS, MATERIAL_FLOATS))
    for start in (0, 3):
        hue, spread, coloured = rng.random(), rng.random(), rng.random() > 0.12
        for i in range(NUM_MATERIALS):
            saturation = rng.random() ** 0.7 * coloured * (0.1 if rng.random() < 0.25 else 1.0)
            h = (hue + (rng.random() - 0.5) * spread) % 1
            rows[i, start : start + 3] = colorsys.hsv_to_rgb(h, saturation, rng.uniform(0.2, 1.0))
    if rng.random() < 0.25:
        rows[:, :6] = rows[0, :6]
    for row in rows:
        row[6] = rng.integers(1, len(PATTERNS)) if rng.random() < 0.35 else 0
        row[7], row[8] = 4 + 26 * rng.random() ** 1.5, rng.uniform(0, 2 * math.pi)
        row[9] = rng.random() if rng.random() < 0.4 else 0
        row[10] = rng.random() * 0.5 if rng.random() < 0.4 else 0
    return rows
