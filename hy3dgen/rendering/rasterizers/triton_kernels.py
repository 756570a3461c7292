"""The two kernels of the Triton back end. This file imports triton, so it is imported only where that may be needed.

The arithmetic follows ``contract`` operation by operation: divisions round as IEEE asks (``div_rn``), and the caller
switches the fusing of products and sums off, which would round once where the rules round twice.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _area(px, py, qx, qy, rx, ry):
    return (rx - px) * (qy - py) - (qx - px) * (ry - py)


@triton.jit
def draw(
    owners, boxes, ends, screen, faces, threshold, keys, first, width,
    WITH_PRIOR: tl.constexpr, STEPS: tl.constexpr, KEY_BASE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """One program: TILE pixels of one face's box against the face; the smallest key of a pixel stays.

    owners: (programs,) int64, row of ``boxes`` that each program works for; boxes: (n, 5) int64 face, first column,
    columns, first row, pixels; ends: (n,) int64 running count of tiles; screen: (V, 3) float32; faces: (F, 3) int32
    threshold: (H * W,) float32, read only WITH_PRIOR; keys: (H * W,) int64, lowered; first: tile of program 0
    """
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    box = boxes + owner * 5
    face = tl.load(box)
    left = tl.load(box + 1).to(tl.int32)
    columns = tl.load(box + 2).to(tl.int32)
    top = tl.load(box + 3).to(tl.int32)
    pixels = tl.load(box + 4).to(tl.int32)
    tiles = (pixels + (TILE - 1)) // TILE
    tile = (first + program - (tl.load(ends + owner) - tiles)).to(tl.int32)
    local = tile * TILE + tl.arange(0, TILE)
    inside = local < pixels
    column = left + local % columns
    row = top + local // columns

    a = screen + tl.load(faces + face * 3).to(tl.int64) * 3
    b = screen + tl.load(faces + face * 3 + 1).to(tl.int64) * 3
    c = screen + tl.load(faces + face * 3 + 2).to(tl.int64) * 3
    ax, ay, az = tl.load(a), tl.load(a + 1), tl.load(a + 2)
    bx, by, bz = tl.load(b), tl.load(b + 1), tl.load(b + 2)
    cx, cy, cz = tl.load(c), tl.load(c + 1), tl.load(c + 2)
    inverse = tl.div_rn(1.0, _area(ax, ay, bx, by, cx, cy))
    px = column.to(tl.float32) + 0.5
    py = row.to(tl.float32) + 0.5
    beta = _area(ax, ay, px, py, cx, cy) * inverse
    gamma = _area(ax, ay, bx, by, px, py) * inverse
    alpha = (1.0 - beta.to(tl.float64) - gamma.to(tl.float64)).to(tl.float32)
    depth = alpha * az + beta * bz + gamma * cz
    inside = inside & (alpha >= 0) & (alpha <= 1) & (beta >= 0) & (beta <= 1) & (gamma >= 0) & (gamma <= 1)
    pixel = row * width + column
    if WITH_PRIOR:
        nearest = tl.load(threshold + pixel, mask=inside, other=0.0)
        inside = inside & (depth >= nearest)
    else:
        inside = inside & (depth >= 0)
    step = depth * STEPS
    inside = inside & (step < KEY_BASE)
    key = tl.where(inside, step, 0.0).to(tl.int64) * KEY_BASE + face + 1
    # Most candidates lie behind what is drawn already: a plain read is cheaper than an atomic that changes nothing.
    inside = inside & (key < tl.load(keys + pixel, mask=inside, other=0))
    tl.atomic_min(keys + pixel, key, mask=inside, sem="relaxed")


@triton.jit
def resolve(
    keys, screen, faces, w, ids, barycentrics, width, pixels,
    EMPTY_KEY: tl.constexpr, KEY_BASE: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """From keys to ids (H * W,) int32 and perspective-correct barycentrics (H * W, 3) float32. w: (V,) float32."""
    pixel = tl.program_id(0) * TILE + tl.arange(0, TILE)
    valid = pixel < pixels
    key = tl.load(keys + pixel, mask=valid, other=EMPTY_KEY)
    shown = valid & (key < EMPTY_KEY)
    number = key % KEY_BASE
    number = tl.where(number < 0, number + KEY_BASE, number)  # the remainder of a negative key is negative here
    number = tl.where(shown, number, 0)
    face = tl.where(shown, number - 1, 0)
    a = tl.load(faces + face * 3, mask=shown, other=0).to(tl.int64)
    b = tl.load(faces + face * 3 + 1, mask=shown, other=0).to(tl.int64)
    c = tl.load(faces + face * 3 + 2, mask=shown, other=0).to(tl.int64)
    ax, ay = tl.load(screen + a * 3, mask=shown, other=0.0), tl.load(screen + a * 3 + 1, mask=shown, other=0.0)
    bx, by = tl.load(screen + b * 3, mask=shown, other=0.0), tl.load(screen + b * 3 + 1, mask=shown, other=0.0)
    cx, cy = tl.load(screen + c * 3, mask=shown, other=0.0), tl.load(screen + c * 3 + 1, mask=shown, other=0.0)
    wa = tl.load(w + a, mask=shown, other=1.0)
    wb = tl.load(w + b, mask=shown, other=1.0)
    wc = tl.load(w + c, mask=shown, other=1.0)
    px = (pixel % width).to(tl.float32) + 0.5
    py = (pixel // width).to(tl.float32) + 0.5
    area = tl.where(shown, _area(ax, ay, bx, by, cx, cy), 1.0)
    inverse = tl.div_rn(tl.full([TILE], 1.0, tl.float32), area)
    beta = _area(ax, ay, px, py, cx, cy) * inverse
    gamma = _area(ax, ay, bx, by, px, py) * inverse
    alpha = (1.0 - beta.to(tl.float64) - gamma.to(tl.float64)).to(tl.float32)
    alpha = tl.div_rn(alpha, wa)
    beta = tl.div_rn(beta, wb)
    gamma = tl.div_rn(gamma, wc)
    total = tl.where(shown, alpha + beta + gamma, 1.0)
    scale = tl.div_rn(tl.full([TILE], 1.0, tl.float32), total)
    tl.store(ids + pixel, number.to(tl.int32), mask=valid)
    tl.store(barycentrics + pixel * 3, tl.where(shown, alpha * scale, 0.0), mask=valid)
    tl.store(barycentrics + pixel * 3 + 1, tl.where(shown, beta * scale, 0.0), mask=valid)
    tl.store(barycentrics + pixel * 3 + 2, tl.where(shown, gamma * scale, 0.0), mask=valid)
