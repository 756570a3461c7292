"""A contact sheet: pictures and, below each, the mesh that the exported model makes of it by the public pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.shapes import CATEGORIES, SHAPES_PER_CATEGORY, shape
from hy3dgen.errors import ImageNotFoundError
from hy3dgen.meshes.io import from_trimesh
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.preview import render_picture

COLUMNS = 12
SUFFIXES = (".png", ".webp")


def contact_sheet(
    model: Path,
    folder: Path | None,
    *,
    every: int = 16,
    guidance: float = 3.0,
    side_px: int = 160,
    octree_resolution: int = 128,
) -> Image.Image:
    """model: an exported folder; folder: cut-out pictures, else every ``every``-th held-out shape.

    A picture without a surface leaves its tile white. Raises ImageNotFoundError for a folder without pictures.
    """
    from hy3dgen.shapegen.pipelines import Hunyuan3DDiTFlowMatchingPipeline

    pipeline = Hunyuan3DDiTFlowMatchingPipeline.from_pretrained(str(model), dtype=torch.float32)
    tiles = []
    for picture in _pictures(folder, every):
        made = np.full((side_px, side_px, 3), 255, np.uint8)
        (mesh,) = pipeline(
            picture, guidance_scale=guidance, num_inference_steps=20, octree_resolution=octree_resolution
        )
        if mesh is not None:
            made = render_picture(from_trimesh(mesh), View(0.0, 12.0), size_px=side_px)
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture)
        seen = np.asarray(white.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS))
        tiles.append(np.concatenate([seen, made]))
    blank = np.full_like(tiles[0], 255)
    rows = [tiles[i : i + COLUMNS] for i in range(0, len(tiles), COLUMNS)]
    padded = [row + [blank] * (min(COLUMNS, len(tiles)) - len(row)) for row in rows]
    return Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in padded]))


def _pictures(folder: Path | None, every: int) -> list[Image.Image]:
    if folder is None:
        return [shape(name, index).render(512) for name in CATEGORIES for index in range(0, SHAPES_PER_CATEGORY, every)]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ImageNotFoundError(f"{folder} holds no {' or '.join(SUFFIXES)} pictures; cut-outs need transparency")
    return [Image.open(path).convert("RGBA") for path in paths]
