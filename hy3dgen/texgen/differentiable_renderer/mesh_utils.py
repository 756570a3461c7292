"""Taking a trimesh apart for the renderer and putting a texture on it, as the reference does."""

from __future__ import annotations

import numpy as np
import trimesh
from PIL import Image


def load_mesh(
    mesh: trimesh.Trimesh,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, None]:
    """(vertices (V, 3), faces (F, 3), uv (V, 2) or None, uv faces = faces, None in place of a texture)."""
    uv = getattr(mesh.visual, "uv", None)
    return mesh.vertices, mesh.faces, uv, mesh.faces, None


def save_mesh(mesh: trimesh.Trimesh, texture_data: Image.Image) -> trimesh.Trimesh:
    """Give ``mesh`` a plain material with this picture, on its own texture coordinates; returns the same mesh."""
    uv = getattr(mesh.visual, "uv", None)
    material = trimesh.visual.material.SimpleMaterial(image=texture_data, diffuse=(255, 255, 255))
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, image=texture_data, material=material)
    return mesh
