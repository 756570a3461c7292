"""Background removal without a network: colours seen at the border are background, GrabCut finds the line between.

Works well on plain, softly shaded or two-tone backgrounds; a busy scene needs the network in ``matting``.
Deterministic: the colour models are started here, not by OpenCV's random k-means.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

WORK_SIZE_PX = 512
ITERATIONS = 6
CLUSTERS = 5  # components of each colour model; fixed by cv2.grabCut's layout
BORDER_SHARE = 0.02
KEEP_COMPONENT_SHARE = 0.01  # of the largest component; smaller ones are specks
FILL_HOLE_SHARE = 0.0005  # of the picture; larger holes (handles, between legs) stay open
NEAR_MIN, NEAR_MAX = 1.5, 8.0  # Lab units: how far from the background a pixel may be and still be like it
FAR_FACTOR = 2.7  # beyond this many times the near limit a pixel is surely not background


def segment(picture: Image.Image) -> Image.Image:
    """Cut the object out by colour.

    picture: RGB, any size; the background is expected to touch the border
    Returns RGBA of the same size with soft edges, edge colours freed of the background, and (255, 255, 255, 0)
    outside. A picture of one colour comes back empty; the caller judges the result.
    """
    pixels = np.asarray(picture.convert("RGB"))
    scale = min(1.0, WORK_SIZE_PX / max(picture.size))
    width, height = (max(2, round(side * scale)) for side in picture.size)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    distance, ground = _background_distance(small)
    near = _near_limit(distance)
    mask = _clean(_grab(small, distance, near), distance, near)
    alpha = _soft_edge(pixels, mask)
    size = (pixels.shape[1], pixels.shape[0])
    colours = _free_edges(pixels, alpha, cv2.resize(ground, size, interpolation=cv2.INTER_LINEAR))
    result = np.dstack([colours, alpha])
    result[alpha == 0] = (255, 255, 255, 0)
    return Image.fromarray(result)


def _background_distance(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How unlike the background each pixel is, and what the background would be there.

    small: (h, w, 3) uint8
    Returns ((h, w) float32 in Lab units, (h, w, 3) float32 background colour in 0..255). The background is a
    quadratic surface through the border's colours (fitted robustly, so that an object cut by the frame does not
    bend it), or one of the border's main colours, whichever is closer.
    """
    height, width = small.shape[:2]
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    ring = _ring(height, width)
    terms = _quadratic_terms(height, width)
    weights = np.ones(int(ring.sum()))
    basis, seen = terms[ring], np.concatenate([lab[ring], small[ring].astype(np.float32)], axis=1)
    coefficients = np.zeros((terms.shape[-1], 6))
    for _ in range(8):  # iteratively reweighted least squares
        w = weights[:, None]
        coefficients = np.linalg.lstsq(basis * w, seen * w, rcond=None)[0]
        residual = np.linalg.norm((seen - basis @ coefficients)[:, :3], axis=1)
        weights = 1.0 / (1.0 + (residual / 4.0) ** 2)
    surface = terms @ coefficients
    smooth = np.linalg.norm(lab - surface[..., :3], axis=-1)
    centres, shares = _main_colours(lab[ring])
    common = centres[shares > 0.15]
    flat = np.linalg.norm(lab[..., None, :] - common, axis=-1).min(-1) if len(common) else smooth
    return np.minimum(smooth, flat).astype(np.float32), np.clip(surface[..., 3:], 0, 255).astype(np.float32)


def _near_limit(distance: np.ndarray) -> float:
    """How far from the background still counts as like it: little on a clean ground, more on a noisy one."""
    spread = float(np.median(distance[_ring(*distance.shape)]))
    return float(np.clip(NEAR_MIN + 2.5 * spread, NEAR_MIN, NEAR_MAX))


def _ring(height: int, width: int) -> np.ndarray:
    """(height, width) bool: the frame of border pixels."""
    thick = max(2, round(BORDER_SHARE * min(height, width)))
    ring = np.ones((height, width), dtype=bool)
    ring[thick:-thick, thick:-thick] = False
    return ring


def _quadratic_terms(height: int, width: int) -> np.ndarray:
    """(height, width, 6): 1, x, y, x², xy, y² with x, y in [-1, 1]."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _main_colours(colours: np.ndarray, count: int = CLUSTERS, rounds: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """k-means without chance: each start is the colour farthest from the earlier ones.

    colours: (n, 3); returns (centres (count, 3), shares (count,) summing to 1)
    """
    points = colours.astype(np.float64)
    centres = [np.median(points, axis=0)]
    for _ in range(count - 1):
        gap = np.min([np.linalg.norm(points - centre, axis=1) for centre in centres], axis=0)
        centres.append(points[int(np.argmax(gap))])
    means = np.array(centres)
    nearest = np.zeros(len(points), dtype=int)
    for _ in range(rounds):
        nearest = np.linalg.norm(points[:, None] - means, axis=2).argmin(1)
        for index in range(count):
            if (nearest == index).any():
                means[index] = points[nearest == index].mean(0)
    return means, np.bincount(nearest, minlength=count) / max(1, len(points))


def _colour_model(pixels: np.ndarray) -> np.ndarray:
    """A Gaussian mixture in cv2.grabCut's layout: (1, 65) = 5 weights, 5 x 3 means, 5 x 9 covariances."""
    sample = pixels[:: max(1, len(pixels) // 20000)].astype(np.float64)
    means, shares = _main_colours(sample)
    nearest = np.linalg.norm(sample[:, None] - means, axis=2).argmin(1)
    covariances = np.tile(np.eye(3) * 25.0, (CLUSTERS, 1, 1))
    for index in range(CLUSTERS):
        members = sample[nearest == index]
        if len(members) > 8:
            covariances[index] = np.cov(members.T) + np.eye(3) * 4.0
    return np.concatenate([shares, means.ravel(), covariances.ravel()])[None]


def _grab(small: np.ndarray, distance: np.ndarray, near: float) -> np.ndarray:
    """(h, w) bool from GrabCut, started from the distance to the background."""
    height, width = distance.shape
    far = near * FAR_FACTOR
    # what is like the background and connected to the border by such pixels is background; the rest is open
    alike = (distance < near).astype(np.uint8)
    labels = cv2.connectedComponents(alike, connectivity=4)[1]
    ring = _ring(height, width)
    touching = np.unique(labels[ring & (alike > 0)])
    outside = np.isin(labels, touching[touching > 0])
    mask = np.where(distance > (near + far) / 2, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    depth = cv2.distanceTransform((~outside).astype(np.uint8), cv2.DIST_L2, 5)
    # enclosed parts are open too: a white belly is a little unlike a white ground, a hole is exactly like it
    hole = _exactly_alike(labels, distance, near) & ~outside
    mask[~outside & ~hole & (depth > 0.01 * max(height, width))] = cv2.GC_PR_FGD
    mask[(distance > far) & (depth > 3)] = cv2.GC_FGD
    mask[outside | hole] = cv2.GC_BGD
    mask[ring & (distance < far)] = cv2.GC_BGD
    foreground = (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)
    if foreground.sum() < 16 or (~foreground).sum() < 16:
        return foreground
    models = [_colour_model(small[~foreground]), _colour_model(small[foreground])]
    cv2.grabCut(np.ascontiguousarray(small), mask, (0, 0, 0, 0), models[0], models[1], ITERATIONS, cv2.GC_EVAL)
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def _exactly_alike(labels: np.ndarray, distance: np.ndarray, near: float) -> np.ndarray:
    """Labelled regions whose median distance is a small part of the near limit."""
    inside = labels > 0
    order = np.argsort(labels[inside], kind="stable")
    ids, starts = np.unique(labels[inside][order], return_index=True)
    groups = np.split(distance[inside][order], starts[1:])
    alike = [index for index, group in zip(ids, groups) if np.median(group) < 0.3 * near]
    return np.isin(labels, alike)


def _clean(mask: np.ndarray, distance: np.ndarray, near: float) -> np.ndarray:
    """Drop specks, fill pinholes and what cannot be background although GrabCut says so."""
    mask = mask | _enclosed_unlike(mask, distance, near)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count > 1:
        areas = stats[1:, cv2.CC_STAT_AREA]
        keep = 1 + np.flatnonzero(areas >= KEEP_COMPONENT_SHARE * areas.max())
        mask = np.isin(labels, keep)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    small = 1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < FILL_HOLE_SHARE * mask.size)
    return mask | np.isin(labels, small)


def _enclosed_unlike(mask: np.ndarray, distance: np.ndarray, near: float) -> np.ndarray:
    """Holes inside the object whose colour is not the background's: part of the object."""
    count, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    ring = _ring(*mask.shape)
    outside = set(np.unique(labels[ring]).tolist())
    unlike = [i for i in range(1, count) if i not in outside and np.median(distance[labels == i]) > near]
    return np.isin(labels, unlike)


def _soft_edge(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 alpha at full size: the mask, refined along the picture's own edges by a guided filter.

    The filter (He, Sun, Tang 2010) fits alpha as a linear function of grey in every window; it is trusted in a
    band around the mask's edge only.
    """
    height, width = pixels.shape[:2]
    rough = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    radius = max(2, round(0.004 * max(height, width)))
    window = (2 * radius + 1, 2 * radius + 1)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    mean_grey, mean_mask = cv2.blur(grey, window), cv2.blur(rough, window)
    covariance = cv2.blur(grey * rough, window) - mean_grey * mean_mask
    variance = cv2.blur(grey * grey, window) - mean_grey * mean_grey
    slope = covariance / (variance + 1e-3)
    offset = mean_mask - slope * mean_grey
    refined = cv2.blur(slope, window) * grey + cv2.blur(offset, window)
    # a filtered edge is flatter than the true one: steepen it about one half
    refined = np.clip((refined - 0.5) * 1.8 + 0.5, 0, 1)
    solid = (rough > 0.5).astype(np.uint8)
    inner = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
    outer = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 5)
    alpha = np.where(inner > radius, 1.0, np.where(outer > radius, 0.0, refined))
    alpha[alpha < 0.04] = 0
    return np.rint(alpha * 255).astype(np.uint8)


def _free_edges(pixels: np.ndarray, alpha: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: where the edge mixes object and background, the object's share of the colour."""
    share = (alpha.astype(np.float32) / 255)[..., None]
    colours = pixels.astype(np.float32)
    own = (colours - (1 - share) * ground) / np.maximum(share, 0.35)
    mixed = (alpha > 0) & (alpha < 255)
    # stay near what is solid close by: the division amplifies noise and a wrongly guessed background
    solid = (alpha == 255).astype(np.float32)
    weight = cv2.blur(solid, (9, 9))
    near = cv2.blur(colours * solid[..., None], (9, 9)) / np.maximum(weight, 1e-3)[..., None]
    own = np.where((weight > 0.02)[..., None], np.clip(own, near - 24, near + 24), colours)
    result = np.where(mixed[..., None], own, colours)
    return np.rint(np.clip(result, 0, 255)).astype(np.uint8)
