"""Which sides of its shape each sample of a batch looks at, and their tokens in the order of the denoiser.

A batch of a model for several views is always split alike: half of it sees the front alone, a third of the rest each
two, three and four sides. Every step then has the same mixture and the same few shapes of tensors, nothing is padded
or masked, and processes that train together take equally long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hy3dgen.errors import UsageError
from training.generator.around import NUM_SIDES

LEAST_BATCH = 2 * (NUM_SIDES - 1)
# Of the samples that see the front alone: those whose tokens carry its mark, as the multi-view encoder gives it. The
# others have none, as the encoder of one picture.
MARKED = 0.2


@dataclass(frozen=True)
class Group:
    """Samples ``part`` of a batch, which see equally many sides: sides (n, V) int64, ascending, the front first; marked
    (n,) bool, whether tokens carry the numbers of their sides."""

    part: slice
    sides: Tensor
    marked: Tensor

    @property
    def num_others(self) -> int:
        """Pictures of this group beside the fronts."""
        return self.sides.shape[0] * (self.sides.shape[1] - 1)


def groups(batch_size: int, num_views: int, generator: torch.Generator) -> list[Group]:
    """What a batch sees. With one view: the front, without a mark, and nothing is drawn.

    Raises UsageError when a batch is too small to have every number of views.
    """
    device = generator.device
    if num_views == 1:
        front = torch.zeros(batch_size, 1, dtype=torch.int64, device=device)
        return [Group(slice(0, batch_size), front, torch.zeros(batch_size, dtype=torch.bool, device=device))]
    if batch_size < LEAST_BATCH:
        raise UsageError(f"a batch of {batch_size} is too small for several views; it takes at least {LEAST_BATCH}")
    each = batch_size // LEAST_BATCH
    alone = batch_size - (NUM_SIDES - 1) * each
    front = torch.zeros(alone, 1, dtype=torch.int64, device=device)
    found = [Group(slice(0, alone), front, torch.rand(alone, generator=generator, device=device) < MARKED)]
    for count in range(2, NUM_SIDES + 1):
        order = torch.rand(each, NUM_SIDES - 1, generator=generator, device=device).argsort(1)
        others = order[:, : count - 1].sort(1).values + 1
        first = found[-1].part.stop
        marked = torch.ones(each, dtype=torch.bool, device=device)
        sides = torch.cat([torch.zeros_like(others[:, :1]), others], 1)
        found.append(Group(slice(first, first + each), sides, marked))
    return found


def pictures(fronts: Tensor, others: Tensor | None, seen: list[Group]) -> Tensor:
    """All pictures that the groups look at: the fronts of the whole batch, then the other sides group by group.

    fronts: (B, …); others: (B, NUM_SIDES - 1, …), None for one view
    """
    found = [fronts]
    for group in seen:
        if group.num_others:
            assert others is not None
            mine = others[group.part]
            rows = torch.arange(len(mine), device=mine.device)[:, None]
            found.append(mine[rows, group.sides[:, 1:] - 1].flatten(0, 1))
    return fronts if len(found) == 1 else torch.cat(found)


def contexts(tokens: Tensor, batch_size: int, seen: list[Group], marks: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Each group's samples and what they look at, (n, V·T, C).

    tokens: (P, T, C) of ``pictures``; marks: (NUM_SIDES, C), see ``conditioner.view_marks``
    """
    place = batch_size
    for group in seen:
        own = tokens[group.part][:, None]
        if group.num_others:
            more = tokens[place : place + group.num_others].unflatten(0, (len(own), -1))
            own = torch.cat([own, more], 1)
            place += group.num_others
        if len(seen) > 1:
            own = own + (marks.to(own)[group.sides] * group.marked[:, None, None]).unsqueeze(2)
        yield group.part, own.flatten(1, 2)
