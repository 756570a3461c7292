"""Where the camera stands: the one home of axis directions, signs and projection matrices.

File space (glTF, ``Mesh``): right-handed, y up, +z towards the viewer of the front picture.
Renderer space: (x, y, z) -> (-x, z, -y). The map has determinant -1, so windings mirror: a cross product of edges
points inward there, and is left so because recorded normal maps and trust maps depend on it.
Azimuth turns the camera about the vertical: 0 sees the mesh from file +z (front), 90 from +x, 180 from -z (back),
270 from -x. Elevation +90 looks down from +y. Pictures are upright and not mirrored: in the front view columns grow
with file x, rows with -y.
Names of the four views: turning clockwise, seen from above, from the front come left, back, right; that is, 'left' is
the object's own left side if it faces the viewer, and stands at file +x (azimuth 90); see ``AZIMUTH_DEG``.
Clip space: normalised device x grows with columns and y with rows (row 0 is y = -1); -1 and +1 are the centres of the
first and last pixel. This module does not know meshes, only points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hy3dgen.errors import UsageError

AZIMUTH_DEG = {"front": 0.0, "left": 90.0, "back": 180.0, "right": 270.0}
SCALE_FACTOR = 1.15
"""Diameter of the sphere that a framed mesh fills; the default window (1.2) leaves a margin around it."""


def to_renderer_space(points: np.ndarray) -> np.ndarray:
    """(N, 3) points or directions from file space to renderer space, as a new array of the same dtype."""
    return np.stack([-points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def to_file_space(points: np.ndarray) -> np.ndarray:
    """The inverse of ``to_renderer_space``: (x, y, z) -> (-x, -z, y)."""
    return np.stack([-points[:, 0], -points[:, 2], points[:, 1]], axis=1)


def frame(points: np.ndarray, scale_factor: float = SCALE_FACTOR) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre points on their bounding box and scale them into a sphere of diameter ``scale_factor``.

    points: (N, 3) float32. Returns (points float32, centre (3,) float32, scale) with
    framed = (points - centre) * scale; a single repeated point is only centred.
    """
    centre = (points.max(axis=0) + points.min(axis=0)) / np.float32(2)
    extent = float(np.float32(2) * np.linalg.norm(points - centre, axis=1).max())
    scale = scale_factor / extent if extent > 0 else 1.0
    return (points - centre) * np.float32(scale), centre, scale


def view_matrix(
    elevation_deg: float, azimuth_deg: float, distance: float, center: Sequence[float] | None = None
) -> np.ndarray:
    """(4, 4) float32 matrix from renderer space to camera space (x right, y down the picture, looking along -z).

    The camera stands at ``distance`` from the origin (not from ``center``, which it looks at). Computed in float64:
    at the poles the roll follows from cos(90 deg) = 6.1e-17, which is part of the contract.
    """
    elevation, azimuth = math.radians(-elevation_deg), math.radians(azimuth_deg + 90)
    position = np.array(
        [
            distance * math.cos(elevation) * math.cos(azimuth),
            distance * math.cos(elevation) * math.sin(azimuth),
            distance * math.sin(elevation),
        ]
    )
    target = np.zeros(3) if center is None else np.asarray(center, dtype=np.float64)
    forward = _unit(target - position)
    right = _unit(np.cross(forward, np.array([0.0, 0.0, 1.0])))
    up = _unit(np.cross(right, forward))
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, up, -forward])
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix.astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    if length == 0:
        raise UsageError("the camera stands on the point it looks at; give a distance above 0")
    return vector / length


def orthographic_projection(
    left: float = -1, right: float = 1, bottom: float = -1, top: float = 1, near: float = 0, far: float = 2
) -> np.ndarray:
    """(4, 4) float32 orthographic projection of a box given in camera space; depth grows away from the camera."""
    matrix = np.eye(4, dtype=np.float32)
    matrix[0, 0], matrix[0, 3] = 2 / (right - left), -(right + left) / (right - left)
    matrix[1, 1], matrix[1, 3] = 2 / (top - bottom), -(top + bottom) / (top - bottom)
    matrix[2, 2], matrix[2, 3] = -2 / (far - near), -(far + near) / (far - near)
    return matrix


def perspective_projection(fovy_deg: float, aspect_wh: float, near: float, far: float) -> np.ndarray:
    """(4, 4) float32 perspective projection; fovy_deg is the full vertical angle, aspect_wh width over height."""
    half_height = math.tan(math.radians(fovy_deg) / 2)
    matrix = np.zeros((4, 4), dtype=np.float32)
    matrix[0, 0], matrix[1, 1] = 1 / (half_height * aspect_wh), 1 / half_height
    matrix[2, 2], matrix[2, 3] = -(far + near) / (far - near), -2 * far * near / (far - near)
    matrix[3, 2] = -1
    return matrix


def transform_points(matrix: np.ndarray | torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Apply a (4, 4) matrix to (N, 3) or (N, 4) float32 points; returns (N, 4) on the points' device."""
    transform = torch.as_tensor(matrix, dtype=torch.float32, device=points.device)
    if points.shape[-1] == 3:
        points = torch.cat([points, points.new_ones(points.shape[:-1] + (1,))], dim=-1)
    return points.float() @ transform.T


@dataclass(frozen=True)
class View:
    """One camera. Lengths are in units of the framed mesh, angles in degrees.

    azimuth_deg, elevation_deg: direction as in the module docstring
    distance: from the origin of renderer space
    ortho_scale: width and height of the orthographic window, whatever the picture's aspect
    fovy_deg: full vertical angle of a perspective camera; None for an orthographic one
    aspect_wh: width over height of a perspective picture
    """

    azimuth_deg: float
    elevation_deg: float = 0.0
    distance: float = 1.45
    ortho_scale: float = 1.2
    center: tuple[float, float, float] | None = None
    near: float = 0.1
    far: float = 100.0
    fovy_deg: float | None = None
    aspect_wh: float = 1.0

    def matrix(self) -> np.ndarray:
        """(4, 4) float32, renderer space to camera space."""
        return view_matrix(self.elevation_deg, self.azimuth_deg, self.distance, self.center)

    def projection(self) -> np.ndarray:
        """(4, 4) float32, camera space to clip space."""
        if self.fovy_deg is not None:
            return perspective_projection(self.fovy_deg, self.aspect_wh, self.near, self.far)
        half = self.ortho_scale * 0.5
        return orthographic_projection(-half, half, -half, half, self.near, self.far)

    def project(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, 3) points of renderer space -> (camera (N, 3), clip (N, 4)) float32, by two products in turn."""
        camera = transform_points(self.matrix(), points)
        return camera[:, :3], transform_points(self.projection(), camera)

    def with_(self, **changes: Any) -> View:
        """A copy with some fields replaced."""
        return replace(self, **changes)
