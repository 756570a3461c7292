"""Rasterisation on CUDA with kernels that Triton compiles at the first use, for torch builds that bring Triton.

The boxes of the faces are found with tensor operations as in ``plain_torch``; one kernel then tests the boxes in tiles
of pixels and one resolves the keys, so that no table of (face, pixel) pairs is ever written.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import torch

from hy3dgen.errors import UsageError
from hy3dgen.rendering.rasterizers import plain_torch
from hy3dgen.rendering.rasterizers.contract import EMPTY_KEY, KEY_BASE, PARITY, Raster, Rules

log = logging.getLogger(__name__)

TILE = 128
"""Pixels of a box that one program tests; most faces have fewer."""
TILES_PER_LAUNCH = 1 << 22
_RESOLVE_TILE = 256


def rasterize(
    clip: torch.Tensor, faces: torch.Tensor, size: tuple[int, int], depth_prior: torch.Tensor | None, rules: Rules
) -> Raster:
    """See ``contract``. clip: on CUDA. Raises UsageError where Triton cannot be used, and says why."""
    if reason := unusable(clip.device):
        raise UsageError(f"the rasteriser 'triton' cannot be used here: {reason}; use 'auto'")
    return _rasterize(clip, faces, size, depth_prior, rules)


@lru_cache(maxsize=32)
def unusable(device: torch.device) -> str | None:
    """Why Triton cannot draw on this device, found by drawing a triangle once; None when it can."""
    if device.type in ("cpu", "mps") and not _interpreted():
        return f"it draws on CUDA, not on {device.type}"
    try:
        points = torch.tensor([[-0.9, -0.9, 0, 1], [0.9, -0.9, 0, 1], [0, 0.9, 0, 1]], device=device)
        face = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
        # Sizes that are multiples of 16, as those of pictures are, so that the kernels compiled here serve them, too.
        found, expected = (draw(points, face, (16, 16), None, PARITY) for draw in (_rasterize, plain_torch.rasterize))
        equal = torch.equal(found.face_ids, expected.face_ids)
    except Exception as error:  # whatever a missing compiler or an old card does, torch can draw
        log.debug("Triton cannot draw", exc_info=True)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
    return None if equal else "it draws a triangle otherwise than torch does"


def _interpreted() -> bool:
    """Whether Triton runs its kernels in Python (TRITON_INTERPRET=1), which works on the CPU and is for tests."""
    try:
        import triton

        from hy3dgen.rendering.rasterizers import triton_kernels
    except ImportError:
        return False
    return not isinstance(triton_kernels.draw, triton.runtime.JITFunction)


def _rasterize(
    clip: torch.Tensor, faces: torch.Tensor, size: tuple[int, int], depth_prior: torch.Tensor | None, rules: Rules
) -> Raster:
    from hy3dgen.rendering.rasterizers import triton_kernels as kernels

    height, width = size
    pixels, device = height * width, clip.device
    if 3 * pixels >= 1 << 31 or len(faces) >= (1 << 31) // 3:  # the kernels count pixels in 32 bits
        return plain_torch.rasterize(clip, faces, size, depth_prior, rules)
    clip = clip.detach().float()
    screen, w = plain_torch.to_screen(clip, size, rules).contiguous(), clip[:, 3].contiguous()
    triangles = faces.to(torch.int32).contiguous()
    keys = torch.full((pixels,), EMPTY_KEY, dtype=torch.int64, device=device)
    threshold = keys if depth_prior is None else plain_torch.nearest_allowed(depth_prior.to(device)).contiguous()
    boxes = plain_torch.find_boxes(screen, faces.long(), size).contiguous()
    ends = ((boxes[:, 4] + (TILE - 1)) // TILE).cumsum(0)
    tiles = int(ends[-1]) if len(ends) else 0
    exact: dict[str, Any] = {"enable_fp_fusion": False, "num_warps": 4}
    with torch.cuda.device_of(clip):  # Triton launches on the current device
        for first in range(0, tiles, TILES_PER_LAUNCH):
            count = min(tiles - first, TILES_PER_LAUNCH)
            owners = torch.searchsorted(ends, torch.arange(first, first + count, device=device), right=True)
            kernels.draw[(count,)](
                owners, boxes, ends, screen, triangles, threshold, keys, first, width,
                WITH_PRIOR=depth_prior is not None, STEPS=rules.depth_steps, KEY_BASE=KEY_BASE, TILE=TILE, **exact,
            )  # fmt: skip
        ids = torch.empty(pixels, dtype=torch.int32, device=device)
        barycentrics = torch.empty(pixels, 3, device=device)
        kernels.resolve[(-(-pixels // _RESOLVE_TILE),)](
            keys, screen, triangles, w, ids, barycentrics, width, pixels,
            EMPTY_KEY=EMPTY_KEY, KEY_BASE=KEY_BASE, TILE=_RESOLVE_TILE, **exact,
        )  # fmt: skip
    return Raster(ids.view(height, width), barycentrics.view(height, width, 3))
