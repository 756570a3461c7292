"""Real meshes that the training never saw, read from installed packages: never copied into the repository.

`pip install pymeshlab pybullet` brings them; what is not installed is left out, and the count says so.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from benchmarks.shapes.shape import LONGEST_SIDE
from benchmarks.shapes.sketch import euler
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.preview import render_picture, render_silhouette

SIZE_PX = 512
ELEVATION_DEG, FOV_DEG = 10.0, 30.0


@dataclass(frozen=True)
class Source:
    """A file of a package, the turn (Euler angles in degrees) that sets it upright and facing +z, and the yaws seen."""

    package: str
    module: str
    path: str
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaws_deg: tuple[float, ...] = (0.0, 40.0)


@dataclass(frozen=True)
class OutsideMesh:
    """A mesh of a package in the model's frame, and the picture of it that the model is given.

    mesh: upright, turned by the yaw, box centred, longest side 1.9; picture: RGBA, cut out
    """

    name: str
    package: str
    version: str
    file: str
    mesh: Mesh
    picture: Image.Image


Z_UP = (-90.0, 0.0, 0.0)
SOURCES = (
    Source("pymeshlab", "pymeshlab", "tests/sample_meshes/bunny.obj"),
    Source("pymeshlab", "pymeshlab", "tests/sample_meshes/cow.obj"),
    Source("pymeshlab", "pymeshlab", "tests/sample_meshes/airplane.obj"),
    Source("pymeshlab", "pymeshlab", "tests/sample_meshes/bone.ply"),
    Source("pybullet", "pybullet_data", "duck.obj"),
    Source("pybullet", "pybullet_data", "teddy2_VHACD_CHs.obj"),
    Source("pybullet", "pybullet_data", "objects/mug.obj", Z_UP),
    Source("pybullet", "pybullet_data", "racecar/meshes/cone.obj", Z_UP),
    Source("pybullet", "pybullet_data", "lego/lego.obj", Z_UP),
    Source("pybullet", "pybullet_data", "soccerball.obj", yaws_deg=(0.0,)),
    Source("pybullet", "pybullet_data", "random_urdfs/003/003.obj", Z_UP),
    Source("pybullet", "pybullet_data", "random_urdfs/017/017.obj", Z_UP),
    Source("pybullet", "pybullet_data", "torus/torus_textured.obj", Z_UP, (40.0,)),
    Source("pybullet", "pybullet_data", "racecar/meshes/hokuyo.obj", Z_UP),
    Source("pybullet", "pybullet_data", "franka_panda/meshes/visual/hand.obj", Z_UP),
    Source("pybullet", "pybullet_data", "franka_panda/meshes/visual/link5.obj", Z_UP),
    Source("pybullet", "pybullet_data", "xarm/xarm_description/meshes/xarm6/visual/base.stl", Z_UP),
    Source("pybullet", "pybullet_data", "xarm/xarm_description/meshes/xarm6/visual/link2.stl", Z_UP),
    Source("pybullet", "pybullet_data", "random_urdfs/050/050.obj", Z_UP, (40.0,)),
    Source("pybullet", "pybullet_data", "random_urdfs/300/300.obj", Z_UP, (40.0,)),
)


def available() -> list[tuple[Source, Path]]:
    """The sources whose files are on this machine."""
    found = []
    for source in SOURCES:
        spec = importlib.util.find_spec(source.module)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / source.path
            if path.is_file():
                found.append((source, path))
                break
    return found


def outside_meshes() -> list[OutsideMesh]:
    """Every available mesh, once for each of its yaws."""
    return [load(source, path, yaw) for source, path in available() for yaw in source.yaws_deg]


def load(source: Source, path: Path, yaw_deg: float) -> OutsideMesh:
    """Read, set upright, turn, normalise and photograph one mesh."""
    raw: Any = trimesh.load(path, force="mesh", process=False, skip_materials=True)
    turn = euler(0, math.radians(yaw_deg), 0) @ euler(*(math.radians(angle) for angle in source.turn_deg))
    vertices = np.asarray(raw.vertices) @ turn.T
    low, high = vertices.min(0), vertices.max(0)
    vertices = (vertices - (low + high) / 2) * (LONGEST_SIDE / (high - low).max())
    mesh = Mesh(vertices.astype(np.float32), np.asarray(raw.faces, np.int32))
    return OutsideMesh(
        name=f"{path.stem}, {yaw_deg:g} degrees",
        package=source.package,
        version=importlib.metadata.version(source.package),
        file=source.path,
        mesh=mesh,
        picture=photograph(mesh),
    )


def photograph(mesh: Mesh) -> Image.Image:
    """(SIZE_PX, SIZE_PX) RGBA: plain colour, softly lit, cut out."""
    distance = 0.75 / math.tan(math.radians(FOV_DEG / 2))
    view = View(0.0, ELEVATION_DEG, distance=distance, fovy_deg=FOV_DEG)
    colours = render_picture(mesh, view, size_px=SIZE_PX)
    fine = render_silhouette(mesh, view, (2 * SIZE_PX, 2 * SIZE_PX)).reshape(SIZE_PX, 2, SIZE_PX, 2)
    alpha = np.rint(fine.mean((1, 3)) * 255).astype(np.uint8)
    return Image.fromarray(np.dstack([colours, alpha]))
