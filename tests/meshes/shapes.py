"""Small meshes with known answers for the tests of this room."""

from __future__ import annotations

import numpy as np
import trimesh

from hy3dgen.meshes.mesh import Mesh


def ball(level: int = 3, *, radius: float = 1.0, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """Icosphere with 20 · 4^level faces."""
    sphere = trimesh.creation.icosphere(subdivisions=level, radius=radius)
    return Mesh(np.array(sphere.vertices + centre, np.float32), np.array(sphere.faces, np.int32))


def box(size: float = 2.0) -> Mesh:
    """Cube of 12 faces around 0."""
    cube = trimesh.creation.box((size, size, size))
    return Mesh(np.array(cube.vertices, np.float32), np.array(cube.faces, np.int32))


def torus(rings: int = 64) -> Mesh:
    ring = trimesh.creation.torus(1.0, 0.35, major_sections=rings, minor_sections=rings // 2)
    return Mesh(np.array(ring.vertices, np.float32), np.array(ring.faces, np.int32))


def sheet(side: int = 20) -> Mesh:
    """A bumpy square of 2 side² faces in the x z plane, seen from +y, with an open border."""
    line = np.linspace(-1, 1, side + 1)
    x, z = np.meshgrid(line, line, indexing="ij")
    y = 0.2 * np.sin(3 * x) * np.cos(2 * z)
    index = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    return Mesh(np.stack([x, y, z], -1).reshape(-1, 3).astype(np.float32), faces.astype(np.int32))


def join(*meshes: Mesh) -> Mesh:
    """Several meshes as one, without UV."""
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets)]).astype(np.int32),
    )


def turned(mesh: Mesh) -> Mesh:
    """Inside out."""
    return mesh.with_(faces=mesh.faces[:, [0, 2, 1]].copy())


def bumpy(level: int, seed: int, scale: float = 1.0) -> Mesh:
    """A closed ball with smooth random bumps."""
    draw = np.random.default_rng(seed)
    mesh = ball(level)
    unit = mesh.vertices.astype(np.float64)
    waves = draw.normal(size=(4, 3)) * 2.5
    radius = 1 + 0.15 * np.sin(unit @ waves.T + draw.uniform(0, 6, 4)).sum(1) / 2
    return mesh.with_(vertices=(unit * radius[:, None] * scale).astype(np.float32))
