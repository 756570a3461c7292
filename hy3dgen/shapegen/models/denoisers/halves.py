"""The two halves of guidance, with and without the picture, when the tokens that stand for 'no picture' are all alike.

The denoisers give condition tokens no position, so equal ones stay equal in every block: one is carried through all
layers, and counts in attention as often as there were. The result is the same but for rounding.
Halves of different lengths cannot be a batch of two; they are packed one behind the other in one sequence. All layers
but attention work token by token and are still called once a step, which streaming, graphs and compiling rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hy3dgen.runtime.attention import attend


@dataclass(frozen=True)
class Alike:
    """``count`` equal tokens, given as one: token (B, 1, C)."""

    token: Tensor
    count: int


@dataclass(frozen=True)
class Halves:
    """Condition tokens of both halves of guidance: picture (B, M, C), and what stands for none."""

    picture: Tensor
    nothing: Alike

    def packed(self) -> Tensor:
        """(B, M + 1, C)."""
        return torch.cat([self.picture, self.nothing.token], dim=1)

    def through(self, layer: Callable[[Tensor], Tensor]) -> Halves:
        """Both after one call of a layer that works token by token."""
        picture, token = layer(self.packed()).split([self.picture.shape[1], 1], dim=1)
        return Halves(picture, Alike(token, self.nothing.count))


class Part(NamedTuple):
    """One half in a packed sequence: its condition tokens (num_cond), then the latents.

    copies: how often each of its condition tokens counts as a key; more than once only when there is one.
    """

    num_cond: int
    copies: int = 1


Parts = tuple[Part, ...]


def halves_of(tokens: Tensor) -> Halves | None:
    """tokens: (2B, M, C), [with ; without]. None when those without are not all alike. Waits for the device once."""
    picture, nothing = tokens.chunk(2)
    if nothing.shape[1] < 2 or not bool((nothing == nothing[:, :1]).all()):
        return None
    return Halves(picture, Alike(nothing[:, :1], nothing.shape[1]))


def packed(condition: Tensor | Halves | Alike) -> tuple[Tensor, Parts]:
    """The condition's tokens as one sequence (B, M, C), and what its parts are."""
    if isinstance(condition, Halves):
        return condition.packed(), (Part(condition.picture.shape[1]), Part(1, condition.nothing.count))
    if isinstance(condition, Alike):
        return condition.token, (Part(1, condition.count),)
    return condition, (Part(condition.shape[1]),)


def beside(batch: Tensor, parts: Parts) -> Tensor:
    """(P·B, N, C), part after part in the batch → (B, P·N, C), part after part in the sequence."""
    return _joined(batch.chunk(len(parts)), dim=1)


def as_batch(sequence: Tensor, parts: Parts) -> Tensor:
    """The way back of ``beside``."""
    return _joined(sequence.chunk(len(parts), dim=1), dim=0)


def weave(cond: Tensor, latents: Tensor, parts: Parts, dim: int = 1) -> Tensor:
    """Condition tokens and latents, each packed along ``dim`` → [condition, latents] of every part in turn."""
    conds = cond.split([part.num_cond for part in parts], dim)
    pairs = zip(conds, latents.chunk(len(parts), dim), strict=True)
    return torch.cat([tokens for pair in pairs for tokens in pair], dim)


def unweave(tokens: Tensor, parts: Parts) -> tuple[Tensor, Tensor]:
    """(B, T, C) woven → (condition, latents), each packed along dimension 1."""
    count = _num_latents(tokens.shape[1], parts)
    pieces = tokens.split([size for part in parts for size in (part.num_cond, count)], dim=1)
    return _joined(pieces[::2], dim=1), _joined(pieces[1::2], dim=1)


def attend_parts(q: Tensor, k: Tensor, v: Tensor, parts: Parts) -> Tensor:
    """q, k, v: (B, H, T, D) woven; every part attends to itself alone. Returns (B, T, H·D)."""
    sizes = [part.num_cond + _num_latents(q.shape[2], parts) for part in parts]
    triples = zip(*(heads.split(sizes, dim=2) for heads in (q, k, v)), strict=True)
    found = [
        attend(one_q, _counted(one_k, part), _counted(one_v, part)).transpose(1, 2).flatten(2)
        for (one_q, one_k, one_v), part in zip(triples, parts, strict=True)
    ]
    return _joined(found, dim=1)


def _counted(heads: Tensor, part: Part) -> Tensor:
    """Keys or values of a part, those of the condition as often as they count.

    Repeating them suits every attention back end. Adding log(copies) to the scores would spare some products, but a
    mask keeps torch from its flash kernel, and merging by log-sum-exp costs about the passes that it spares.
    """
    if part.copies == 1:
        return heads
    return torch.cat([heads[:, :, :1].expand(-1, -1, part.copies, -1), heads[:, :, 1:]], dim=2)


def _num_latents(total: int, parts: Parts) -> int:
    return (total - sum(part.num_cond for part in parts)) // len(parts)


def _joined(pieces: Sequence[Tensor], dim: int) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim)
