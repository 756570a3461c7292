"""Points on the surfaces of a batch of shapes, by sphere traced chords, and the boxes that normalise it.

The rule of ``benchmarks.shapes.folding.surface_points``: rays through random points of a box in random directions;
crossing 1, 2, 3 or 4 is kept with chances .5, .25, .15, .1, so that inner walls are covered. Here the box is the
shape's own, so that thin shapes are hit as often as others. All rays of all shapes step together; every few steps those
that are done are packed away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.shapes import primitives as columns
from benchmarks.shapes.folding import SUBTRACTION
from benchmarks.shapes.shape import LONGEST_SIDE
from training.generator.solids import Solids

CROSSING_CHANCES = (0.5, 0.25, 0.15, 0.1)
MARGIN = 0.05  # free room around a box, in units of the longest side
HIT = 1.5e-3
MAX_STEPS = 160
PACK_EVERY = 6
ROUNDS = 12


@dataclass
class _Rays:
    """Rays on their way, each (B, n) or (B, n, 3); ``index`` is their place in the results."""

    index: Tensor
    start: Tensor
    way: Tensor
    t: Tensor
    sign: Tensor
    skip: Tensor
    length: Tensor
    going: Tensor

    def packed(self) -> _Rays:
        """Only as many columns as the shape with most rays on their way needs."""
        most = int(self.going.sum(1).max())
        order = self.going.int().argsort(dim=1, descending=True, stable=True)[:, :most]

        def pick(values: Tensor) -> Tensor:
            if values.ndim == 2:
                return values.gather(1, order)
            return values.gather(1, order[..., None].expand(-1, -1, 3))

        return _Rays(*(pick(getattr(self, name)) for name in self.__dataclass_fields__))


def crossings(solids: Solids, start: Tensor, way: Tensor, skip: Tensor, length: Tensor) -> Tensor:
    """Distance along each ray to its crossing number ``skip`` (0 = first) with the surface; -1 where there is none.

    start, way: (B, N, 3), ways of length 1; skip: (B, N) int64; length: (B, N) where a ray ends. Returns (B, N).
    """
    found = torch.full_like(length, -1.0)
    index = torch.arange(start.shape[1], device=start.device).expand(len(solids), -1)
    ones = torch.ones_like(length)
    rays = _Rays(index, start, way, torch.zeros_like(length), ones, skip, length, ones.bool())
    for step in range(MAX_STEPS):
        if step % PACK_EVERY == 0:
            if not bool(rays.going.any()):
                break
            rays = rays.packed()
        value = solids.fold(rays.start + rays.t[..., None] * rays.way)[0]
        d = rays.sign * value
        # just behind a crossing: a ray that only grazed the surface is on the side that it came from
        behind = d < -2 * HIT
        rays.sign, d = torch.where(behind, -rays.sign, rays.sign), torch.where(behind, -d, d)
        near = d < HIT
        hit = rays.going & near & (rays.skip == 0)
        kept = torch.where(hit, rays.t, found.gather(1, rays.index))
        found.scatter_(1, rays.index, kept)
        rays.going = rays.going & ~hit
        rays.t = rays.t + torch.where(near, 4 * HIT, (0.9 * d).clamp_min(HIT))
        rays.sign = torch.where(near, -rays.sign, rays.sign)
        rays.skip = rays.skip - near.long()
        rays.going = rays.going & (rays.t <= rays.length) & (rays.skip >= 0)
    return found


def refine(solids: Solids, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two Newton steps along the gradient. points: (B, N, 3).

    Returns points, outward unit normals (B, N, 3) and where they part space (B, N): outside ahead and inside behind,
    not where two parts merely touch within the solid.
    """
    slopes = points
    for _ in range(2):
        value, slopes = solids.gradient(points)
        step = (value / slopes.square().sum(-1).clamp_min(0.05)).clamp(-0.02, 0.02)
        points = points - step[..., None] * slopes
    normals = slopes / slopes.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    reach = 2e-3 * normals
    parts = (solids.fold(points + reach)[0] > 0) & (solids.fold(points - reach)[0] < 0)
    return points, normals, parts


def sample(
    solids: Solids, low: Tensor, high: Tensor, count: int, generator: torch.Generator, *, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Points spread over the whole surfaces. low, high: (B, 3) corners of boxes around the shapes.

    Returns (B, count, 6) points and outward unit normals, and the number of different points among them, (B,); what is
    still missing after ``rounds`` repeats points that were found, all zero for a shape without a single one.
    """
    if solids.kernels is not None:
        seed = int(torch.randint(2**31, (1,), generator=generator, device=low.device))
        points, found = solids.kernels.surface(solids.parts, torch.cat([low, high], 1), count, seed)
        return _repeated(points, found)
    batch = len(solids)
    points = low.new_zeros(batch, count, 6)
    filled = torch.zeros(batch, dtype=torch.int64, device=low.device)
    rays = count
    shot = 0
    for _ in range(rounds):
        lacking = (filled < count).nonzero()[:, 0]
        if not len(lacking):
            break
        if shot:  # as many rays as the shape that lacks most should need, from its own share of hits
            have = filled[lacking]
            needed = (1.3 * (count - have) * shot / have.clamp_min(1)).amax().ceil()
            rays = min(int(needed) + 16, count)
        fresh, good = _shoot(solids[lacking], low[lacking], high[lacking], rays, generator)
        _append(points, filled, lacking, fresh, good)
        shot += rays
    some = filled.clamp_min(1)[:, None]
    source = torch.arange(count, device=low.device) % some
    return points.gather(1, source[..., None].expand(-1, -1, 6)), filled


def _repeated(points: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, N, 6) of which some were found (B, N); the others become repeats of these. As ``sample`` returns."""
    filled = found.sum(1)
    if bool((filled < found.shape[1]).any()):
        order = found.int().argsort(dim=1, descending=True, stable=True)
        source = torch.arange(found.shape[1], device=found.device) % filled.clamp_min(1)[:, None]
        points = points.gather(1, order.gather(1, source)[..., None].expand(-1, -1, 6))
    return points, filled


def _append(points: Tensor, filled: Tensor, which: Tensor, fresh: Tensor, good: Tensor) -> None:
    """Put the good ones (B', n) of fresh points (B', n, 6) behind what shapes ``which`` have, while they fit."""
    room = points.shape[1]
    place = filled[which, None] + good.long().cumsum(1) - 1
    fits = good & (place < room)
    rows = which[:, None].expand_as(place)[fits]
    points[rows, place[fits]] = fresh[fits]
    filled[which] = (filled[which] + good.sum(1)).clamp_max(room)


def _shoot(solids: Solids, low: Tensor, high: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` rays a shape through its box: (B, count, 6) points and normals, and which of them are any good."""
    batch, device = len(solids), low.device
    way = torch.randn(batch, count, 3, generator=generator, device=device, dtype=low.dtype)
    way = way / way.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    share = torch.rand(batch, count, 3, generator=generator, device=device, dtype=low.dtype)
    chances = torch.tensor(CROSSING_CHANCES, device=device).cumsum(0)[:-1]
    draw = torch.rand(batch, count, generator=generator, device=device)
    skip = (draw[..., None] >= chances).sum(-1)
    low, high = low[:, None], high[:, None]
    return through(solids, low + share * (high - low), way, skip, low, high)


def through(
    solids: Solids, points: Tensor, way: Tensor, skip: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Rays through (B, N, 3) points from where they enter the box (B, 1, 3 corners) to where they leave it."""
    if solids.kernels is not None:
        return solids.kernels.through(solids.parts, torch.cat([low[:, 0], high[:, 0]], 1), points, way, skip)
    room = MARGIN * (high - low).amax(-1, keepdim=True)
    low, high = low - room, high + room
    steep = torch.where(way.abs() < 1e-6, 1e-6, way)
    first, second = (low - points) / steep, (high - points) / steep
    enter = torch.minimum(first, second).amax(-1)
    leave = torch.maximum(first, second).amin(-1)
    start = points + enter[..., None] * way
    t = crossings(solids, start, way, skip, leave - enter)
    at, normals, good = refine(solids, start + t.clamp_min(0)[..., None] * way)
    return torch.cat([at, normals], -1), good & (t >= 0)


def outer_box(solids: Solids) -> tuple[Tensor, Tensor]:
    """Corners (B, 3) of boxes that contain the shapes for certain, from the bounding spheres of their parts."""
    rows = solids.rows
    centre = rows[..., columns.CENTRE : columns.CENTRE + 3]
    bound = rows[..., columns.BOUND, None]
    low, high = centre - bound, centre + bound
    mirror, repeat = rows[..., columns.MIRROR], rows[..., columns.REPEAT]
    ring = torch.hypot(centre[..., 0], centre[..., 2])
    for axis, flag in ((0, (mirror == 1) | (mirror == 3)), (2, mirror >= 2)):
        across = torch.where(flag, centre[..., axis].abs(), 0.0)
        across = torch.where(repeat > 1.5, ring, across)
        both = flag | (repeat > 1.5)
        low[..., axis] = torch.where(both, -across - bound[..., 0], low[..., axis])
        high[..., axis] = torch.where(both, across + bound[..., 0], high[..., axis])
    used = torch.arange(rows.shape[1], device=rows.device) < solids.counts[:, None]
    solid = (used & (rows[..., columns.OPERATION] != SUBTRACTION))[..., None]
    low = torch.where(solid, low, torch.inf).amin(1)
    high = torch.where(solid, high, -torch.inf).amax(1)
    back = solids.poses[:, :9].view(-1, 3, 3).transpose(1, 2)
    middle = torch.einsum("bij,bj->bi", back, (low + high) / 2) - solids.poses[:, 9:12]
    half = torch.einsum("bij,bj->bi", back.abs(), (high - low) / 2)
    scale = solids.poses[:, 12:13]
    return (middle - half) / scale, (middle + half) / scale


def surface_box(
    solids: Solids, generator: torch.Generator, *, count: int = 768, rays: int = 96
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners (B, 3) of the surfaces' boxes and which shapes have enough surface for one, (B,) bool.

    Points all over the surface, then rays through the surroundings of the extreme ones: tips are thin.
    """
    low, high = outer_box(solids)
    points, filled = sample(solids, low, high, count, generator, rounds=6)
    at = points[..., :3]
    room, reach = (low[:, None], high[:, None]), 0.08
    for _ in range(2):
        extremes = torch.cat([at.argmin(1), at.argmax(1)], 1)  # (B, 6)
        centre = at.gather(1, extremes[..., None].expand(-1, -1, 3)).repeat_interleave(rays, 1)
        noise = torch.rand(centre.shape, generator=generator, device=at.device, dtype=at.dtype)
        way = torch.randn(centre.shape, generator=generator, device=at.device, dtype=at.dtype)
        way = way / way.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        centre = torch.minimum(torch.maximum(centre + (2 * noise - 1) * reach, room[0]), room[1])
        skip = torch.zeros(centre.shape[:2], dtype=torch.int64, device=at.device)
        hits, good = through(solids, centre, way, skip, *room)
        at = torch.cat([at, torch.where(good[..., None], hits[..., :3], at[:, :1])], 1)
        reach /= 3
    return at.amin(1), at.amax(1), filled >= count // 3


def normalise(solids: Solids, generator: torch.Generator) -> tuple[Solids, Tensor, Tensor]:
    """Centre every shape and scale its longest side to LONGEST_SIDE.

    Returns the shapes, their half sizes (B, 3), and which of them are any good (B,): all others have too little
    surface, or a size that no category makes, and keep their pose.
    """
    low, high, good = surface_box(solids, generator)
    longest = (high - low).amax(1)
    good = good & (longest > 0.3) & (longest < 6)
    scale = torch.where(good, longest / LONGEST_SIDE, 1.0)
    poses = solids.poses.clone()
    poses[:, 9:12] = torch.where(good[:, None], (low + high) / 2, 0.0)
    poses[:, 12] = scale
    return solids.with_poses(poses), (high - low) / 2 / scale[:, None], good
