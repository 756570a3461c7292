"""``--texture project``: the input pictures themselves on the mesh, the rest filled in; needs no weights.

Each picture is laid over the silhouette that the mesh shows from its side, then carried to the texels that it shows.
What no picture shows comes from its mirror image or from what lies before or behind it, and melts into what is around.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from PIL import Image

from hy3dgen.baking.align import fit
from hy3dgen.baking.elevation import find_elevation
from hy3dgen.baking.fill import compose, mean_edge, nearest, pull_push, spread_correction
from hy3dgen.baking.project import Painting
from hy3dgen.baking.shots import COUNTED_TRUST, FULL_TRUST, Shot, depth_of, level_depth_of
from hy3dgen.baking.texels import Surface, Texels, texels_of, texels_of_points
from hy3dgen.errors import ImageError, MeshError, UsageError
from hy3dgen.meshes.mesh import Mesh
from hy3dgen.rendering.cameras import View
from hy3dgen.runtime.device import pick_device
from hy3dgen.runtime.stages import StageRecord, stage, steps

MIN_RASTER_PX, MAX_RASTER_PX = 512, 2048
POOR_OVERLAP = 0.6
_DEPTH_STEP = 0.03
"""Change of depth between neighbours, in units of the framed mesh, that counts as the edge of a nearer part."""
_EDGE_SHARE, _SOFT_SHARE = 0.012, 0.04
"""Shares of the view: width of the distrusted band along edges; half the smallest feature that is kept behind."""


@dataclass(frozen=True)
class PictureView:
    """One picture of the object and the side it shows.

    image: RGBA, the object cut out (an opaque picture counts as object everywhere)
    azimuth_deg, elevation_deg: as in ``rendering.cameras``: front 0, left 90, back 180, right 270
    weight: how much its colours count beside other pictures
    """

    image: Image.Image
    azimuth_deg: float
    elevation_deg: float = 0.0
    weight: float = 1.0


@dataclass(frozen=True)
class Coverage:
    """Shares of the texels under charts; they sum to 1.

    seen: one picture shows it well; blended: several pictures, or a picture and filled colour mixed; filled: none
    """

    seen: float
    blended: float
    filled: float


@dataclass(frozen=True)
class Projection:
    """The mesh with its texture, where the colours came from, and how well each picture fitted (overlap, 0 to 1)."""

    mesh: Mesh
    coverage: Coverage
    overlaps: tuple[float, ...]


def project_pictures(
    mesh: Mesh,
    pictures: Sequence[PictureView],
    *,
    texture_size: int = 2048,
    symmetry: bool = True,
    find_elevations: bool = False,
    device: str | torch.device | None = None,
) -> Projection:
    """Paint a mesh with pictures of it.

    mesh: with uv; pictures: at least one, in any order; texture_size: side in texels
    symmetry: let the left half lend its colours to the right one where only one is seen, and the reverse
    find_elevations: take the elevations from the outlines instead of the pictures' own (see ``baking.elevation``)
    Opens the stages 'maps', 'bake' and 'fill'; the mesh that was given is not changed. Deterministic.
    Raises MeshError for a mesh without uv or faces, UsageError for no picture or a texture below 16 texels,
    ImageError for a picture that is transparent everywhere.
    """
    check_projection(mesh, pictures, texture_size)
    place = pick_device(device)
    with stage("maps") as record:
        surface = Surface.of(mesh)
        texels = texels_of(mesh, texture_size, device=place)
        if find_elevations:
            pictures = [_at_its_elevation(surface, picture, record, place) for picture in pictures]
        shots, overlaps = laid_over(surface, pictures, record, place)
    with stage("bake"):
        painting = Painting(texels)
        for shot in steps(shots, unit="view"):
            painting.add(surface, shot, device=place)
        painting.collect()
    with stage("fill") as record:
        texture, _ = spread(surface, painting, shots, symmetry=symmetry)
        texture = pull_push(texture, texels.face_ids > 0)
        coverage = coverage_of(painting)
        record.figures["coverage"] = vars(coverage)
    return Projection(mesh.with_(texture=texture), coverage, overlaps)


def check_projection(mesh: Mesh, pictures: Sequence[PictureView], texture_size: int) -> None:
    """Raise UsageError or MeshError for what cannot be painted."""
    if not pictures:
        raise UsageError("no picture to project; give at least one")
    if texture_size < 16:
        raise UsageError(f"a texture of {texture_size} texels is too small; use at least 16")
    if mesh.uv is None:
        raise MeshError("the mesh has no texture coordinates to paint onto; unwrap it first")
    if not len(mesh.faces):
        raise MeshError("the mesh has no faces to paint")


def spread(
    surface: Surface, painting: Painting, shots: Sequence[Shot], *, symmetry: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Colour what the shots do not show: (texels (H, W, 3), distinct positions of the surface (N, 1, 3)), uint8; 0 off
    the texels. painting: with all shots added."""
    points = Painting(texels_of_points(surface))
    # Points are far apart: without this blur they would pick single lines of the picture and spread them.
    coarse = [shot.blurred(mean_edge(surface)) for shot in shots]
    for shot in coarse:
        points.add(surface, shot)
    for shot, smooth in steps(list(zip(shots, coarse, strict=True)), unit="view"):
        points.add_fallback(surface, smooth, symmetry=symmetry, everywhere=True)
        painting.add_fallback(surface, shot, symmetry=symmetry)
    correction = spread_correction(surface, points)
    return compose(surface, painting, correction), compose(surface, points, correction)


def coverage_of(painting: Painting) -> Coverage:
    """Where the colours of a painting with all pictures added come from."""
    texels: Texels = painting.texels
    trust, count = painting.trust[texels.chart], painting.count[texels.chart]
    filled = float((trust < COUNTED_TRUST).mean())
    seen = float(((trust >= FULL_TRUST) & (count <= 1)).mean())
    return Coverage(seen=seen, blended=max(0.0, 1.0 - seen - filled), filled=filled)


def _at_its_elevation(surface: Surface, picture: PictureView, record: StageRecord, device: torch.device) -> PictureView:
    """The picture with the elevation that its outline tells."""
    alpha = np.array(picture.image.convert("RGBA"))[..., 3]
    found = find_elevation(surface, alpha, picture.azimuth_deg, device=device)
    record.figures[f"elevation_{picture.azimuth_deg:g}"] = {
        "degrees": found.degrees,
        "overlap": round(found.overlap, 4),
        "overlap_level": round(found.level_overlap, 4),
    }
    return replace(picture, elevation_deg=found.degrees)


def laid_over(
    surface: Surface, pictures: Sequence[PictureView], record: StageRecord, device: torch.device
) -> tuple[list[Shot], tuple[float, ...]]:
    """Lay every picture over its view of the mesh, on as many threads as torch uses: (shots, overlaps) in their order.

    Overlaps go into the record's figures, and a warning for each poor one.
    """
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        jobs = [pool.submit(_laid_over, surface, picture, device) for picture in pictures]
        try:
            fitted = [job.result() for job in steps(jobs, unit="view")]
        finally:
            for job in jobs:
                job.cancel()  # those that wait, when the run is cancelled or a picture cannot be used
    for picture, (_, overlap) in zip(pictures, fitted, strict=True):
        if overlap < POOR_OVERLAP:
            record.warn(
                f"the picture at {picture.azimuth_deg:g} degrees fits the mesh poorly (overlap {overlap:.2f}); "
                "its colours may sit in the wrong places"
            )
    overlaps = tuple(overlap for _, overlap in fitted)
    record.figures["overlap"] = [round(overlap, 4) for overlap in overlaps]
    return [shot for shot, _ in fitted], overlaps


def _laid_over(surface: Surface, picture: PictureView, device: torch.device) -> tuple[Shot, float]:
    """Lay one picture over the view of the mesh: (shot, overlap)."""
    pixels = np.array(picture.image.convert("RGBA"))
    size = _raster_size(pixels)
    view = View(picture.azimuth_deg, picture.elevation_deg)
    depth, covered = depth_of(surface, view, (size, size), device=device)
    matrix, overlap = fit(pixels[..., 3], covered)
    edge_px = max(2.0, _EDGE_SHARE * size)
    known = _eroded(pixels[..., 3])
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    image = _warped(nearest(pixels[..., :3], known > 0), matrix, size, scale)
    inside = cv2.warpAffine(known, matrix, (size, size), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0
    confidence = ramp(inside, edge_px) * ramp(~depth_steps(depth, covered), edge_px)
    level = level_depth_of(surface, view, (size, size), device=device)
    return Shot(view, image, _soft(image, confidence), confidence, depth, picture.weight, level), overlap


def _raster_size(pixels: np.ndarray) -> int:
    """Side of the view in pixels, so that the object is about as large in it as in the picture."""
    rows, columns = np.nonzero(pixels[..., 3] > 127)
    if not len(rows):
        raise ImageError("a picture is transparent everywhere, so there is no object to project; cut it out again")
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    return int(np.clip(extent * 1.25, MIN_RASTER_PX, MAX_RASTER_PX))


def _eroded(alpha: np.ndarray) -> np.ndarray:
    """(h, w) uint8 {0, 255}: the object without its rim, where colours are mixed with the background's."""
    solid = (alpha > 250).astype(np.uint8) if (alpha > 250).any() else (alpha > 127).astype(np.uint8)
    for radius in (max(1, round(0.004 * max(alpha.shape))), 1, 0):
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        smaller = cv2.erode(solid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        if smaller.sum() > 0.5 * solid.sum():  # thin objects would vanish
            break
    return smaller * np.uint8(255)


def _warped(picture: np.ndarray, matrix: np.ndarray, size: int, scale: float) -> np.ndarray:
    """(size, size, 3) uint8; a picture that shrinks by much is blurred first, so that it does not flicker."""
    if scale > 1.5:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _soft(image: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The picture at an eighth of its size without small features; a median keeps the borders of the large ones.

    Edges, where outlines and highlights lie, take the colours beside them.
    """
    small = cv2.resize(image, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    trusted = cv2.resize(confidence, small.shape[1::-1], interpolation=cv2.INTER_AREA) > 0.9
    window = 2 * round(_SOFT_SHARE * small.shape[0]) + 1
    return cv2.GaussianBlur(nearest(cv2.medianBlur(small, max(window, 3)), trusted), (0, 0), 1.0)


def depth_steps(depth: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """(H, W) bool: background, and pixels beside a step in depth."""
    kernel = np.ones((3, 3), np.uint8)
    high = cv2.dilate(depth, kernel)
    low = cv2.erode(np.where(covered, depth, np.float32(1e9)), kernel)
    return ~covered | (high - low > _DEPTH_STEP)


def ramp(inside: np.ndarray, width_px: float) -> np.ndarray:
    """(H, W) float32: 0 outside, rising to 1 over ``width_px`` from the edge of what is True."""
    distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5)
    return np.clip(distance / np.float32(width_px), 0, 1).astype(np.float32)
