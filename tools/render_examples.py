"""Render the example pictures in assets/examples from shapes written here: `python tools/render_examples.py`.

Every picture is made by this file alone, so it may be used and passed on freely under the project's licence.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.shapes import Shape, sculpt  # noqa: E402
from benchmarks.shapes.look import Light, material  # noqa: E402
from benchmarks.shapes.sketch import Sketch  # noqa: E402

SIZE_PX = 768
SAMPLES = 4
LIGHT = Light((-0.55, 0.75, 0.8), key=0.72, ambient=0.52, specular=0.55, occlusion=0.55, rim=0.12)
UPRIGHT = (math.pi / 2, 0.0, 0.0)
SIDEWAYS = (0.0, 0.0, math.pi / 2)

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Example:
    """A shape, its colours by material index, and the camera."""

    draw: Callable[[Sketch], None]
    colours: list[np.ndarray]
    yaw_deg: float
    elevation_deg: float = 14.0

    def shape(self, name: str) -> Shape:
        return sculpt(name, self.draw, yaw_deg=self.yaw_deg)

    def materials(self) -> np.ndarray:
        """(8, 11); unused indices repeat the last colour."""
        return np.array(self.colours + [self.colours[-1]] * (8 - len(self.colours)))


def rgb(code: str) -> Colour:
    """'#rrggbb' to floats in [0, 1]."""
    return (int(code[1:3], 16) / 255, int(code[3:5], 16) / 255, int(code[5:7], 16) / 255)


def mug(s: Sketch) -> None:
    s.cylinder((0, 0, 0), 0.62, 0.47, 0.5, r=0.05, mat=0)
    s.torus((0.52, 0.0, 0), 0.34, 0.075, mat=0, blend=0.04)
    s.cylinder((0, 0.12, 0), 0.62, 0.4, 0.43, r=0.03, cut=True, mat=1)
    s.cylinder((0, -0.32, 0), 0.09, 0.482, 0.487, r=0.01, mat=2)
    s.cylinder((0, 0.12, 0), 0.62, 0.4, 0.43, r=0.03, cut=True, mat=1)


def chair(s: Sketch) -> None:
    s.box((0, 0, 0), (0.5, 0.06, 0.48), 0.03, mat=0)
    s.box((0, 0.09, 0.01), (0.46, 0.06, 0.44), 0.05, mat=1)
    s.limb((0.42, -0.04, 0.4), (0.47, -0.82, 0.46), 0.06, 0.045, mirror=1, mat=0)
    s.limb((0.42, -0.04, -0.4), (0.47, -0.82, -0.5), 0.06, 0.045, mirror=1, mat=0)
    s.limb((0.43, 0.0, -0.42), (0.45, 1.05, -0.58), 0.055, 0.05, mirror=1, mat=0)
    s.box((0, 0.95, -0.56), (0.46, 0.11, 0.04), 0.03, rot=(-0.15, 0, 0), mat=0)
    s.box((0, 0.6, -0.51), (0.44, 0.07, 0.035), 0.03, rot=(-0.15, 0, 0), mat=0)
    s.box((0, 0.34, -0.47), (0.44, 0.05, 0.03), 0.02, rot=(-0.15, 0, 0), mat=0)
    s.limb((0.45, -0.5, 0.44), (0.45, -0.5, -0.47), 0.035, 0.035, mirror=1, mat=0)


def house(s: Sketch) -> None:
    s.box((0, -0.02, 0), (0.7, 0.4, 0.52), 0.01, mat=0)
    s.prism((0, 0.64, 0), 0.68, 0.58, 0.82, 0.02, rot=(0, math.pi / 2, 0), mat=1)
    s.box((-0.38, 0.82, -0.12), (0.1, 0.3, 0.1), 0.01, mat=2)
    s.box((-0.38, 1.1, -0.12), (0.13, 0.04, 0.13), 0.01, mat=3)
    s.box((0, -0.16, 0.54), (0.15, 0.26, 0.04), 0.01, mat=4)
    s.ball((0.09, -0.18, 0.59), 0.022, mat=3)
    s.box((0.42, 0.06, 0.53), (0.13, 0.13, 0.03), 0.01, mirror=1, mat=3)
    s.box((0.42, 0.06, 0.55), (0.1, 0.1, 0.03), 0.005, mirror=1, mat=5)
    s.box((0.42, 0.06, 0.58), (0.012, 0.1, 0.012), 0.004, mirror=1, mat=3)
    s.box((0.71, 0.06, 0), (0.03, 0.14, 0.14), 0.01, mirror=1, mat=3)
    s.box((0.72, 0.06, 0), (0.035, 0.11, 0.11), 0.005, mirror=1, mat=5)
    s.box((0, -0.46, 0.05), (0.84, 0.06, 0.72), 0.03, mat=6)
    s.box((0, -0.395, 0.66), (0.2, 0.03, 0.12), 0.01, mat=2)


def car(s: Sketch) -> None:
    s.box((0, 0, 0), (0.44, 0.2, 0.98), 0.13, mat=0)
    s.tapered_box((0, 0.3, -0.1), (0.41, 0.2, 0.58), 0.06, 0.8, 0.6, mat=1, blend=0.04)
    s.box((0, 0.49, -0.1), (0.32, 0.03, 0.34), 0.03, mat=0)
    for z in (0.58, -0.58):
        s.cylinder((0.42, -0.17, z), 0.085, 0.22, r=0.04, rot=SIDEWAYS, mirror=1, mat=2)
        s.cylinder((0.49, -0.17, z), 0.03, 0.12, r=0.015, rot=SIDEWAYS, mirror=1, mat=3)
    s.ellipsoid((0.29, 0.05, 0.95), (0.085, 0.075, 0.05), mirror=1, mat=4)
    s.box((0, -0.13, 0.96), (0.4, 0.05, 0.06), 0.04, mat=3)
    s.box((0, -0.13, -0.96), (0.4, 0.05, 0.06), 0.04, mat=3)
    s.box((0, 0.03, 0.965), (0.15, 0.05, 0.03), 0.02, mat=2)
    s.box((0.3, 0.06, -0.96), (0.08, 0.05, 0.04), 0.02, mirror=1, mat=5)


def animal(s: Sketch) -> None:
    s.ellipsoid((0, 0, 0), (0.26, 0.27, 0.46), mat=0)
    s.ellipsoid((0, 0.03, 0.3), (0.24, 0.27, 0.24), blend=0.1, mat=0)
    s.limb((0.14, -0.08, 0.34), (0.15, -0.62, 0.36), 0.1, 0.075, mirror=1, blend=0.06, mat=0)
    s.limb((0.15, -0.06, -0.32), (0.16, -0.62, -0.34), 0.13, 0.075, mirror=1, blend=0.06, mat=0)
    s.ellipsoid((0.15, -0.65, 0.4), (0.085, 0.06, 0.12), mirror=1, blend=0.03, mat=1)
    s.ellipsoid((0.16, -0.65, -0.3), (0.085, 0.06, 0.12), mirror=1, blend=0.03, mat=1)
    s.limb((0, 0.12, 0.4), (0, 0.42, 0.58), 0.19, 0.17, blend=0.1, mat=0)
    s.ellipsoid((0, 0.53, 0.64), (0.28, 0.25, 0.26), blend=0.06, mat=0)
    s.limb((0, 0.45, 0.82), (0, 0.42, 0.98), 0.13, 0.09, blend=0.06, mat=2)
    s.ball((0, 0.47, 1.05), 0.055, mat=3)
    s.limb((0.19, 0.68, 0.58), (0.26, 0.93, 0.55), 0.1, 0.04, mirror=1, blend=0.04, mat=1)
    s.ball((0.11, 0.59, 0.865), 0.042, mirror=1, mat=3)
    s.limb((0, 0.1, -0.42), (0.06, 0.42, -0.72), 0.07, 0.1, blend=0.06, mat=0)
    s.ball((0.065, 0.47, -0.76), 0.105, blend=0.05, mat=2)
    s.ellipsoid((0, -0.02, 0.44), (0.15, 0.2, 0.14), blend=0.05, mat=2)


def lamp(s: Sketch) -> None:
    s.cylinder((0, -0.88, 0), 0.05, 0.38, 0.34, r=0.03, mat=0)
    s.revolved((0, -0.42, 0), 0.44, [0.16, 0.22, 0.25, 0.24, 0.19, 0.13, 0.09, 0.07, 0.07, 0.06], mat=1)
    s.cylinder((0, 0.1, 0), 0.2, 0.04, mat=0)
    s.cylinder((0, 0.5, 0), 0.33, 0.55, 0.33, r=0.02, mat=2)
    s.cylinder((0, 0.46, 0), 0.33, 0.52, 0.31, r=0.01, cut=True, mat=3)
    s.ball((0, 0.3, 0), 0.14, mat=3)
    s.cylinder((0, 0.23, 0), 0.025, 0.558, 0.546, r=0.01, mat=4)
    s.cylinder((0, 0.8, 0), 0.03, 0.355, 0.338, r=0.01, mat=4)


def robot(s: Sketch) -> None:
    s.tapered_box((0, 0, 0), (0.3, 0.34, 0.22), 0.06, 1.15, 1.0, mat=0)
    s.box((0, 0.02, 0.21), (0.17, 0.14, 0.03), 0.02, mat=1)
    s.ball((0.07, 0.04, 0.25), 0.035, mirror=1, mat=2)
    s.cylinder((0, 0.4, 0), 0.07, 0.1, mat=3)
    s.box((0, 0.68, 0), (0.34, 0.25, 0.26), 0.09, mat=0)
    s.box((0, 0.69, 0.22), (0.27, 0.16, 0.06), 0.05, mat=4)
    s.ball((0.12, 0.7, 0.275), 0.06, mirror=1, mat=2)
    s.cylinder((0.35, 0.68, 0), 0.04, 0.1, r=0.02, rot=SIDEWAYS, mirror=1, mat=3)
    s.cylinder((0, 1.0, 0), 0.09, 0.02, mat=3)
    s.ball((0, 1.12, 0), 0.06, mat=2)
    s.limb((0.36, 0.22, 0), (0.55, -0.18, 0.08), 0.09, 0.075, mirror=1, mat=3)
    s.ball((0.36, 0.23, 0), 0.12, mirror=1, mat=0)
    s.ball((0.56, -0.24, 0.1), 0.12, mirror=1, mat=1)
    s.limb((0.16, -0.3, 0), (0.18, -0.72, 0), 0.1, 0.09, mirror=1, mat=3)
    s.box((0.18, -0.82, 0.05), (0.15, 0.09, 0.22), 0.07, mirror=1, mat=1)


def mushroom(s: Sketch) -> None:
    s.revolved((0, -0.3, 0), 0.55, [0.3, 0.32, 0.3, 0.26, 0.22, 0.2, 0.19, 0.19, 0.19, 0.19], mat=0)
    s.ellipsoid((0, 0.2, 0), (0.75, 0.5, 0.75), mat=1)
    s.ellipsoid((0, -0.14, 0), (0.74, 0.36, 0.74), cut=True, blend=0.04, mat=0)
    s.limb((0, -0.6, 0), (0, 0.3, 0), 0.2, 0.17, mat=0)
    dots = (
        (0.2, 0.95, 0.13),
        (1.5, 0.75, 0.11),
        (2.4, 0.45, 0.12),
        (1.0, 0.25, 0.1),
        (3.6, 0.6, 0.1),
        (5.2, 0.5, 0.11),
    )
    for around, up, r in (*dots, (0.0, 1.5, 0.14), (1.75, 0.3, 0.09), (4.5, 0.85, 0.1)):
        x, z = 0.75 * math.cos(up) * math.cos(around), 0.75 * math.cos(up) * math.sin(around)
        s.ellipsoid((x, 0.2 + 0.5 * math.sin(up), z), (r, r * 0.75, r), mat=2)


EXAMPLES: dict[str, Example] = {
    "mug": Example(
        mug,
        [
            material(rgb("#2f7f93"), specular=0.8),
            material(rgb("#f2ead8"), specular=0.3),
            material(rgb("#f0b54a"), specular=0.6),
        ],
        yaw_deg=-28,
        elevation_deg=20,
    ),
    "chair": Example(
        chair,
        [
            material(rgb("#a8693a"), rgb("#8f5529"), pattern="noise", scale=22, specular=0.3),
            material(rgb("#c8463f"), specular=0.1, noise=0.1),
        ],
        yaw_deg=32,
        elevation_deg=16,
    ),
    "house": Example(
        house,
        [
            material(rgb("#efe0c0")),
            material(rgb("#b5472f"), rgb("#9c3a26"), pattern="stripes_y", scale=60),
            material(rgb("#9a8f86"), noise=0.15),
            material(rgb("#fbf7ee")),
            material(rgb("#35637a"), specular=0.4),
            material(rgb("#8fc3d9"), specular=0.9),
            material(rgb("#6fa04f"), noise=0.2),
        ],
        yaw_deg=-30,
        elevation_deg=16,
    ),
    "car": Example(
        car,
        [
            material(rgb("#e2a11f"), specular=0.9),
            material(rgb("#3b5566"), specular=1.0),
            material(rgb("#2b2b2e"), specular=0.2),
            material(rgb("#c9ccd0"), specular=0.9),
            material(rgb("#fff6d8"), specular=1.0),
            material(rgb("#c5302b"), specular=0.6),
        ],
        yaw_deg=40,
        elevation_deg=16,
    ),
    "animal": Example(
        animal,
        [
            material(rgb("#c98b4f"), noise=0.08),
            material(rgb("#6e4423"), noise=0.08),
            material(rgb("#f3e3cb"), noise=0.06),
            material(rgb("#24201e"), specular=1.0),
        ],
        yaw_deg=38,
        elevation_deg=10,
    ),
    "lamp": Example(
        lamp,
        [
            material(rgb("#b98a3d"), specular=0.9),
            material(rgb("#3d6f68"), specular=0.9),
            material(rgb("#f6e3b4"), rgb("#f1d79d"), pattern="stripes_x", scale=34),
            material(rgb("#fff8e0")),
            material(rgb("#b98a3d"), specular=0.6),
        ],
        yaw_deg=0,
        elevation_deg=8,
    ),
    "robot": Example(
        robot,
        [
            material(rgb("#5c8fb0"), specular=0.7),
            material(rgb("#e8743b"), specular=0.5),
            material(rgb("#fce38a"), specular=1.0),
            material(rgb("#8d9298"), specular=0.8),
            material(rgb("#22303a"), specular=0.8),
        ],
        yaw_deg=-20,
        elevation_deg=8,
    ),
    "mushroom": Example(
        mushroom,
        [
            material(rgb("#f0e4cd"), noise=0.08),
            material(rgb("#c8372d"), specular=0.6),
            material(rgb("#fdf6e8")),
        ],
        yaw_deg=0,
        elevation_deg=10,
    ),
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "assets" / "examples", help="folder for the pictures")
    parser.add_argument("--size", type=int, default=SIZE_PX, help="side of each picture in pixels")
    parser.add_argument("names", nargs="*", help=f"which pictures; all when none is given: {', '.join(EXAMPLES)}")
    options = parser.parse_args(argv)
    unknown = set(options.names) - set(EXAMPLES)
    if unknown:
        parser.error(f"unknown picture {', '.join(sorted(unknown))}; pictures are {', '.join(EXAMPLES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or EXAMPLES:
        example = EXAMPLES[name]
        solid = example.shape(name)
        camera = solid.camera_at(example.elevation_deg, 28)
        picture = solid.render(options.size, camera=camera, light=LIGHT, materials=example.materials(), samples=SAMPLES)
        path = options.output / f"{name}.png"
        picture.save(path, optimize=True)
        print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}: {path.stat().st_size // 1024} KB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
