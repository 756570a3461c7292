"""The other sides of shapes: how they lie when another side is in front, and pictures of all four.

The camera stays where ``pictures`` wants it; the shape is turned by quarters, so that every kernel that makes a
picture makes these, too. Order and meaning of the sides: ``benchmarks.shapes.look``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.shapes.look import QUARTER_TURNS, SIDES
from training.generator import pictures
from training.generator.pictures import Scene
from training.generator.solids import Solids

NUM_SIDES = len(SIDES)


@dataclass(frozen=True)
class Walk:
    """How the views of one object differ, beside their side. Nobody's four photographs are exact quarter turns of one
    camera: elevation: radians up or down from the front's at most; distance: share nearer or farther at most;
    turning: share of shapes that are turned before camera and light, of the others the light stays with the shape"""

    elevation: float = 0.07
    distance: float = 0.1
    turning: float = 0.5


WALK = Walk()


def turned_vectors(vectors: Tensor, side: int) -> Tensor:
    """(..., 3) points or directions of the model's frame as they are with this side in front; exact."""
    axes, signs = QUARTER_TURNS[side]
    return vectors[..., list(axes)] * vectors.new_tensor(signs)


def turned(solids: Solids, side: int) -> Solids:
    """The same shapes with this side in front."""
    poses = solids.poses
    rotation = turned_vectors(poses[:, :9].view(-1, 3, 3), side).flatten(1)
    return solids.with_poses(torch.cat([rotation, turned_vectors(poses[:, 9:12], side), poses[:, 12:]], 1))


def other_sides(
    solids: Solids,
    scene: Scene,
    effects: Tensor | None,
    points: Tensor,
    halves: Tensor,
    size_px: int,
    generator: torch.Generator,
    walk: Walk = WALK,
) -> Tensor:
    """(B, NUM_SIDES - 1, size, size, 4) uint8 pictures of left, back and right, as ``pictures.render`` makes the front.

    scene: of the front; the same materials and kinds of light. points: (B, N, 3 or more), which each window frames
    """
    batch, device = len(solids), points.device
    turning = torch.rand(batch, 1, generator=generator, device=device) < walk.turning
    seen = []
    for side in range(1, NUM_SIDES):
        draw = 2 * torch.rand(batch, 3, generator=generator, device=device, dtype=points.dtype) - 1
        elevation = scene.cameras[:, 0] + walk.elevation * draw[:, 0]
        distance = scene.cameras[:, 1] * (1 + walk.distance * draw[:, 1])
        views = torch.stack([elevation, distance, scene.cameras[:, 5] * draw[:, 2]], 1)
        fitted = pictures.fit_windows(turned_vectors(points[..., :3], side), views)
        directions = scene.lights[:, :3]
        directions = torch.where(turning, directions, turned_vectors(directions, side))
        lights = torch.cat([directions, scene.lights[:, 3:]], 1)
        there = replace(scene, cameras=pictures.jittered(fitted, generator), lights=lights)
        box = turned_vectors(halves, side).abs()
        seen.append(pictures.photograph(turned(solids, side), there, size_px, effects=effects, halves=box))
    return torch.stack(seen, 1)
