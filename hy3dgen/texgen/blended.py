"""``--texture paint-nano``: the input pictures where they show the surface well, a small paint model everywhere else.

The model paints six views without light at its own, low resolution. The front picture keeps its detail and takes the
model's colours at large scale, which removes its light and lets both meet without an edge; what remains at the border
is spread over the surface as in ``projection``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image

from hy3dgen.baking.fill import compose, mean_edge, nearest, pull_push, spread_correction
from hy3dgen.baking.project import Painting
from hy3dgen.baking.shots import Shot, depth_of
from hy3dgen.baking.texels import Surface, texels_of, texels_of_points
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering import maps
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.surface import prepare
from hy3dgen.runtime.device import pick_device
from hy3dgen.runtime.stages import stage
from hy3dgen.runtime.stages import steps as counted
from hy3dgen.texgen.config import VIEWS_DEG, Recall, make_anew
from hy3dgen.texgen.locating import configured
from hy3dgen.texgen.projection import (
    PictureView,
    Projection,
    check_projection,
    coverage_of,
    depth_steps,
    laid_over,
    ramp,
    spread,
)
from hy3dgen.texgen.views import camera_index, recenter, squared
from hy3dgen.weights.catalogue import BUILT_IN_PAINT

RASTER_PX = 512
"""Side of the rasters that carry the painted views, which are smaller themselves, onto the texture."""
POLE_WEIGHT = 0.3
"""How much the views from above and below count beside the others: they see most things at a slant."""
_EDGE_SHARE = 0.012
_LARGE_SCALE = 0.02
"""Share of a view over which the picture takes the painted colours; finer detail stays its own."""
_FLOOR = 0.04
_RANGE = (0.4, 2.5)


def paint_beside_pictures(
    mesh: Mesh,
    pictures: Sequence[PictureView],
    *,
    model: str | os.PathLike[str] = BUILT_IN_PAINT,
    subfolder: str = "hunyuan3d-paint-v2-0",
    steps: int | None = None,
    delight: bool = True,
    texture_size: int = 2048,
    seed: int = 0,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    offline: bool | None = None,
    recall: Recall | None = None,
) -> Projection:
    """Paint a mesh with pictures of it and a paint model that was taught to take light out.

    mesh: with uv; pictures: at least one; the one from the front (azimuth and elevation 0), else the first, is what the
        model looks at
    model, subfolder: as ``Hunyuan3DPaintPipeline.from_pretrained``; steps: None for the model's usual number
    delight: True gives the colours without light; False leaves the front picture as it is and paints to match it
    offline: never download; recall: keeps the painted 'views' for a later run
    Opens the stages load, maps, views, bake and fill. Deterministic on the CPU.
    Raises MeshError, ImageError, UsageError, WeightsError, NumericalError, Cancelled.
    """
    check_projection(mesh, pictures, texture_size)
    place = pick_device(device)
    with stage("load"):
        from hy3dgen.texgen.utils.multiview_utils import Multiview_Diffusion_Net

        config = configured(model, subfolder, device=place, dtype=dtype, delight=False, offline=offline)
        if steps is not None:
            config.multiview_inference_steps = steps
        painter = Multiview_Diffusion_Net(config)
        painter.seed_everything(seed)
    front = next((p for p in pictures if p.azimuth_deg % 360 == 0 and p.elevation_deg == 0), pictures[0])
    with stage("maps") as record:
        surface = Surface.of(mesh)
        texels = texels_of(mesh, texture_size, device=place)
        shots, overlaps = laid_over(surface, pictures, record, place)
        controls = _controls(mesh, painter.view_size, place)
    with stage("views"):
        cameras = [camera_index(elevation, azimuth) for azimuth, elevation in VIEWS_DEG]
        reference = [squared(recenter(front.image.convert("RGBA")))]
        views = (recall or make_anew)("views", lambda: painter(reference, controls, cameras))
        painted = [np.array(view) for view in views]
    with stage("bake"):
        place_of_front = next(i for i, picture in enumerate(pictures) if picture is front)
        shots, painted = _matched(shots, place_of_front, painted, delight=delight)
        behind_shots = [_view_shot(surface, *item, place) for item in zip(painted, VIEWS_DEG, strict=True)]
        painting, behind = Painting(texels), Painting(texels)
        for shot in counted(shots, unit="view"):
            painting.add(surface, shot, device=place)
        painting.collect()
        for shot in counted(behind_shots, unit="view"):
            behind.add(surface, shot, device=place)
        behind.collect()
    with stage("fill") as record:
        texture = _joined(surface, painting, shots, behind, behind_shots)
        coverage = coverage_of(painting)
        record.figures["coverage"] = vars(coverage)
    return Projection(mesh.with_(texture=texture), coverage, overlaps)


def _controls(mesh: Mesh, size_px: int, device: torch.device) -> list[Image.Image]:
    """Normal maps, then position maps, of the official views."""
    raster_mesh = prepare(mesh.vertices, mesh.faces, device=device)
    drawings = [
        maps.draw(raster_mesh, View(azimuth, elevation), (size_px, size_px)) for azimuth, elevation in VIEWS_DEG
    ]
    drawn = [maps.normal_map(drawing) for drawing in drawings] + [maps.position_map(drawing) for drawing in drawings]
    return [Image.fromarray(maps.to_uint8(picture)) for picture in drawn]


def _matched(
    shots: Sequence[Shot], front: int, painted: Sequence[np.ndarray], *, delight: bool
) -> tuple[list[Shot], list[np.ndarray]]:
    """The pictures without light, or the painted views (S, S, 3) uint8 with as much of it as the front picture has."""
    ratio = _ratio(shots[front], painted[0])
    if ratio is None:
        return list(shots), list(painted)
    mean = ratio.reshape(-1, 3).mean(axis=0)
    if not delight:
        return list(shots), [_scaled(view, 1 / mean) for view in painted]
    gains = [mean] * len(shots)
    gains[front] = cv2.resize(ratio, shots[front].image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    changed = [
        replace(shot, image=_scaled(shot.image, gain), soft=_scaled(shot.soft, mean))
        for shot, gain in zip(shots, gains, strict=True)
    ]
    return changed, list(painted)


def _ratio(shot: Shot, view: np.ndarray) -> np.ndarray | None:
    """(S, S, 3) float32: by what the picture has to be multiplied to have the view's colours at large scale; None when
    the picture shows nothing for certain."""
    size = view.shape[1::-1]
    known = (cv2.resize(shot.confidence, size, interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)
    if not known.any():
        return None
    sigma = _LARGE_SCALE * size[0]
    own = cv2.resize(shot.image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    mass = cv2.GaussianBlur(known, (0, 0), sigma)[..., None]
    blurred = [
        cv2.GaussianBlur(picture * known[..., None], (0, 0), sigma) / np.maximum(mass, 1e-6)
        for picture in (view.astype(np.float32) / 255, own)
    ]
    ratio = np.clip((blurred[0] + _FLOOR) / (blurred[1] + _FLOOR), *_RANGE)
    return cv2.GaussianBlur(nearest(ratio, mass[..., 0] > 0.05), (0, 0), sigma)


def _scaled(picture: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture * gain, 0, 255)).astype(np.uint8)


def _view_shot(surface: Surface, painted: np.ndarray, camera: tuple[int, int], device: torch.device) -> Shot:
    """A painted view as something that can be carried to texels. Its background continues the object's edge."""
    azimuth, elevation = camera
    view, size = View(azimuth, elevation), (RASTER_PX, RASTER_PX)
    depth, covered = depth_of(surface, view, size, device=device)
    image = cv2.resize(painted, size, interpolation=cv2.INTER_CUBIC)
    confidence = ramp(~depth_steps(depth, covered), max(2.0, _EDGE_SHARE * RASTER_PX))
    soft = cv2.GaussianBlur(cv2.resize(painted, (RASTER_PX // 8,) * 2, interpolation=cv2.INTER_AREA), (0, 0), 2.0)
    return Shot(view, image, soft, confidence, depth, POLE_WEIGHT if elevation else 1.0)


def _joined(
    surface: Surface, painting: Painting, shots: Sequence[Shot], behind: Painting, behind_shots: Sequence[Shot]
) -> np.ndarray:
    """(T, T, 3) uint8: the pictures, melting into the painted views where they show little."""
    points = Painting(texels_of_points(surface))
    for shot in shots:
        points.add(surface, shot.blurred(mean_edge(surface)))
    colours, at_points = spread(surface, behind, behind_shots, symmetry=False)
    for target, filling in ((painting, colours), (points, at_points)):
        target.fallback[..., :3], target.fallback[..., 3] = filling, 1
        target.fallback_trust[:] = 1
    texture = compose(surface, painting, spread_correction(surface, points))
    return pull_push(texture, painting.texels.face_ids > 0)
