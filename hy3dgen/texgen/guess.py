"""What a picture of the front says about every view before any network has looked: its own colours where it shows the
surface, those of the mirrored place where it shows only that, and what lies in front of it elsewhere.

The same function, on the same maps, makes the training data of small paint models and their start at inference.
Works on batches, in plain torch, on any device; knows maps and pictures, no mesh and no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hy3dgen.rendering.cameras import SCALE_FACTOR, View

WINDOW = View(0.0).ortho_scale
LIMIT = math.cos(math.radians(80.0))
BIAS = 0.02
"""How far, in units of the framed mesh, a point may lie behind the surface that the picture shows: maps have 8 bits."""
MIRROR_TOLERANCE = 0.05
"""How far the surface may lie from the mirror image of a point to lend its colour."""
FULL_TRUST = 0.33
"""Share of the cosine's range above ``LIMIT`` from which a picture shows a point fully: about 63 degrees."""
THROUGH = 0.02
"""Weight of what lies in front of a point beside a picture that shows it fully."""
SOFT_PX = 9


@dataclass(frozen=True)
class Guess:
    """views: (B, N, 3, H, W) in [0, 1], continued beyond the object; seen: (B, N, H, W) in [0, 1], how well the picture
    shows a pixel; covered: (B, N, H, W) bool, pixels that show the object."""

    views: Tensor
    seen: Tensor
    covered: Tensor


def first_guess(normals: Tensor, positions: Tensor, picture: Tensor, *, jitter: Tensor | None = None) -> Guess:
    """Spread a picture of the front over all views.

    normals, positions: (B, N, 3, H, W) in [0, 1] as ``rendering.maps`` encodes them (renderer space, background white);
    the first view is the front (azimuth 0, elevation 0), orthographic with the usual window
    picture: (B, 4, h, w) in [0, 1], RGBA with the object cut out; its outline's box is laid over the front view's
    jitter: (B, 4) across, down (shares of the box) and logarithms of width and height, errors to train with
    """
    covered = (normals < 254.5 / 255).any(2) | (positions < 254.5 / 255).any(2)
    place, normal = _file_space((0.5 - positions) * SCALE_FACTOR), -_file_space(normals * 2 - 1)
    normal = normal / normal.norm(dim=2, keepdim=True).clamp_min(1e-4)
    front = _laid_over(picture, covered[:, 0], jitter)
    soft = _blurred(front)
    depth = torch.where(covered[:, 0], place[:, 0, 2], -10.0)[:, None]  # (B, 1, H, W)

    mirror = place.new_tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    direct, shown = _seen(place, normal, depth, front, float("inf"))
    mirrored, lent = _seen(place * mirror, normal * mirror, depth, front, MIRROR_TOLERANCE)
    lent = lent * (1 - shown)
    through = _sampled(soft, place)
    weights = shown + lent + THROUGH
    views = (direct * shown[:, :, None] + mirrored * lent[:, :, None] + through * THROUGH) / weights[:, :, None]
    shown = torch.where(covered, shown, 0.0)
    return Guess(continued(views, covered), shown, covered)


def _file_space(vectors: Tensor) -> Tensor:
    """Renderer space to file space along dimension 2, see ``rendering.cameras``."""
    x, y, z = vectors.unbind(2)
    return torch.stack([-x, -z, y], 2)


def _laid_over(picture: Tensor, silhouette: Tensor, jitter: Tensor | None) -> Tensor:
    """(B, 3, H, W): the picture in the pixels of the front view, without background colour anywhere."""
    alpha = picture[:, 3]
    inside = alpha > 0.5
    colour = continued(picture[:, None, :3], _shrunk(alpha > 0.98, inside)[:, None])[:, 0]
    height, width = silhouette.shape[1:]
    source, target = _box(inside), _box(silhouette)  # (B, 4) left, top, right, bottom
    rows = torch.arange(height, device=picture.device) + 0.5
    columns = torch.arange(width, device=picture.device) + 0.5
    u = (columns - target[:, None, 0]) / (target[:, None, 2] - target[:, None, 0]) - 0.5
    v = (rows - target[:, None, 1]) / (target[:, None, 3] - target[:, None, 1]) - 0.5
    if jitter is not None:
        u = u * jitter[:, None, 2].exp() + jitter[:, None, 0]
        v = v * jitter[:, None, 3].exp() + jitter[:, None, 1]
    x = source[:, None, 0] + (u + 0.5) * (source[:, None, 2] - source[:, None, 0])
    y = source[:, None, 1] + (v + 0.5) * (source[:, None, 3] - source[:, None, 1])
    x, y = x * 2 / picture.shape[3] - 1, y * 2 / picture.shape[2] - 1
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
    return functional.grid_sample(colour, grid, padding_mode="border", align_corners=False)


def _box(mask: Tensor) -> Tensor:
    """(B, 4) float edges left, top, right, bottom of what is True in (B, H, W); the whole picture where nothing is."""
    edges = []
    for dim in (1, 2):  # columns, then rows
        line = mask.any(dim)
        size = line.shape[1]
        first = line.int().argmax(1).float()
        last = (size - line.flip(1).int().argmax(1)).float()
        some = line.any(1)
        edges.append((torch.where(some, first, 0.0), torch.where(some, last, float(size))))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], 1)


def _shrunk(solid: Tensor, inside: Tensor) -> Tensor:
    """The mask (B, H, W) without its rim of one pixel, where colours are mixed; with it where little would remain."""
    smaller = functional.max_pool2d((~solid).float()[:, None], 3, stride=1, padding=1)[:, 0] < 0.5
    enough = smaller.sum((1, 2)) > 0.3 * inside.sum((1, 2))
    return torch.where(enough[:, None, None], smaller, inside)


def _seen(place: Tensor, normal: Tensor, depth: Tensor, front: Tensor, farther: float) -> tuple[Tensor, Tensor]:
    """Colours (B, N, 3, H, W) of the front picture at these places, and how well it shows them (B, N, H, W)."""
    cosine = normal[:, :, 2]
    trust = ((cosine - LIMIT) / (1 - LIMIT)).clamp_min(0)
    surface = _sampled(depth, place, mode="nearest")[:, :, 0]
    slope = (1 - cosine.square()).clamp_min(0).sqrt() / cosine.clamp_min(LIMIT)
    room = BIAS + 0.5 * WINDOW / depth.shape[-1] * slope
    z = place[:, :, 2]
    shown = (surface <= z + room) & (surface >= z - room.clamp_min(farther))
    return _sampled(front, place), (trust / FULL_TRUST).clamp_max(1) * shown


def _sampled(picture: Tensor, place: Tensor, mode: str = "bilinear") -> Tensor:
    """(B, N, C, H, W): what the front view (B, C, H', W') has where places (B, N, 3, H, W) fall into it."""
    batch, count, _, height, width = place.shape
    grid = torch.stack([place[:, :, 0], -place[:, :, 1]], -1) * (2 / WINDOW)
    grid = grid.reshape(batch, count * height, width, 2)
    found = functional.grid_sample(picture, grid, mode=mode, padding_mode="border", align_corners=True)
    return found.view(batch, -1, count, height, width).transpose(1, 2)


def _blurred(picture: Tensor) -> Tensor:
    padded = functional.pad(picture, (SOFT_PX // 2,) * 4, mode="replicate")
    once = functional.avg_pool2d(padded, SOFT_PX, stride=1)
    return functional.avg_pool2d(functional.pad(once, (SOFT_PX // 2,) * 4, mode="replicate"), SOFT_PX, stride=1)


def continued(views: Tensor, known: Tensor) -> Tensor:
    """Views (B, N, C, H, W) whose background takes the colours of the object's edge; known: (B, N, H, W) bool.

    Pull-push: unknown pixels take the mean of the nearest level of the pyramid that knows something.
    """
    batch, count, channels, height, width = views.shape
    values = views.reshape(batch * count, channels, height, width)
    weight = known.reshape(batch * count, 1, height, width).to(values.dtype)
    levels = [(values, weight)]
    while min(levels[-1][1].shape[2:]) > 1:
        values, weight = levels[-1]
        mass = functional.avg_pool2d(weight, 2, ceil_mode=True, count_include_pad=False)
        total = functional.avg_pool2d(values * weight, 2, ceil_mode=True, count_include_pad=False)
        levels.append((total / mass.clamp_min(1e-6), (mass * 4).clamp_max(1)))
    filled = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        larger = functional.interpolate(filled, size=values.shape[2:], mode="bilinear", align_corners=False)
        filled = larger + (values - larger) * weight
    return filled.view(batch, count, channels, height, width)


__all__ = ["Guess", "continued", "first_guess"]
