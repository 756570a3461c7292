"""Pictures recentred on the device as the paint pipeline recentres them on the CPU (``trace.ready_picture``)."""

from __future__ import annotations

import torch
from torch import Tensor

from training.paint.trace import SMALLEST_PX

BORDER = 5  # a border of a fifth on each side, as ``texgen.views.recenter``
SHARPNESS = -0.5  # of Pillow's bicubic filter


def recentred(pictures: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Cropped to the object, with a border, in the middle of a transparent square, resized by Pillow's rules.

    pictures: (B, P, P, 4) uint8, straight alpha of 0 or 255
    Returns (B, 4, size, size) uint8, and (B,) bool: the picture shows enough of the object to be of use.
    """
    solid = pictures[..., 3] > 0
    (left, width), (top, height) = _extent(solid.any(1)), _extent(solid.any(2))
    side = torch.maximum(width + 2 * (width // BORDER), height + 2 * (height // BORDER))
    premultiplied = torch.where(solid[..., None], pictures, 0).permute(0, 3, 1, 2).float()
    across, down = (
        _weights(left, width, side, len(solid[0]), size_px),
        _weights(top, height, side, len(solid[0]), size_px),
    )
    narrow = _bytes(premultiplied @ across[:, None].mT)
    small = _bytes(down[:, None] @ narrow)
    alpha = small[:, 3:]
    straight = torch.where(alpha > 0, (255 * small[:, :3] / alpha.clamp_min(1)).floor(), small[:, :3]).clamp_max(255)
    return torch.cat([straight, alpha], 1).to(torch.uint8), solid.any((1, 2)) & (
        torch.minimum(width, height) >= SMALLEST_PX
    )


def _extent(line: Tensor) -> tuple[Tensor, Tensor]:
    """First place of (B, P) bool that is True, and how many there are from there to the last; all where none is."""
    length = line.shape[1]
    first = line.int().argmax(1)
    return first, length - line.flip(1).int().argmax(1) - first


def _weights(first: Tensor, extent: Tensor, side: Tensor, source_px: int, size_px: int) -> Tensor:
    """(B, size, source) float32: the share that each pixel of a picture's row has in each pixel of the result.

    first, extent, side: (B,) int64, the object in the source and the side of the square that is resized
    """
    device = first.device
    scale = side.double()[:, None] / size_px
    reach = scale.clamp_min(1)
    centre = (torch.arange(size_px, device=device) + 0.5) * scale  # (B, size), in pixels of the square
    low = (centre - 2 * reach + 0.5).floor()[..., None].clamp_min(0)
    high = torch.minimum((centre + 2 * reach + 0.5).floor(), side[:, None])[..., None]
    place = torch.arange(source_px + 2 * (source_px // BORDER) + 1, device=device)
    shares = _bicubic((place - centre[..., None] + 0.5) / reach[..., None]) * ((place >= low) & (place < high))
    shares = shares / shares.sum(2, keepdim=True)
    border = extent // BORDER
    offset = torch.div(side - extent - 2 * border, 2, rounding_mode="floor") + border - first
    columns = (torch.arange(source_px, device=device) + offset[:, None]).clamp(0, len(place) - 1)  # of the square
    return shares.gather(2, columns[:, None].expand(-1, size_px, -1)).float()


def _bicubic(x: Tensor) -> Tensor:
    a, x = SHARPNESS, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _bytes(values: Tensor) -> Tensor:
    """Rounded to whole numbers from 0 to 255, as Pillow does after each direction."""
    return (values + 0.5).floor().clamp(0, 255)
