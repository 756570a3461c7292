"""How the geometry decoder's queries look at the latents: at all of them, or (FlashVDM) at the best few.

A processor is called as ``processor(attention, q, k, v)`` with (B, H, n, D) tensors and returns (B, H, n, D).
FlashVDM is lossy by design: each group of queries keeps the keys that a sample of the group scores highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hy3dgen.errors import UsageError
from hy3dgen.runtime.attention import attend

# (ids, counts) of consecutive runs of queries; each run selects its own keys. The ids are not used.
Runs = Sequence[Sequence[int] | Tensor]

KEPT_KEYS = {3072: 1024, 512: 256}  # by number of latents; a third of them for any other number
MEAN_STRIDE_COARSE, MEAN_STRIDE_RUNS, MERGE_STRIDE_RUNS = 100, 50, 30
MERGE_THRESHOLD = 1e-6


class CrossAttentionProcessor:
    """Plain attention over all latents."""

    def __call__(self, attn: nn.Module | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: (B, H, n, D); k, v: (B, H, m, D). Returns (B, H, n, D)."""
        return attend(q, k, v)


class FlashVDMCrossAttentionProcessor:
    """Attention over the keys with the largest mean score ('mean').

    ``topk`` decides what the next call does, and goes back to False after it:
    False = all keys; True = one selection per batch item; (ids, counts) = one selection per run of queries, B = 1.
    """

    def __init__(self, topk: bool | Runs = False) -> None:
        self.topk: bool | Runs = False if topk is None else topk

    def __call__(self, attn: nn.Module | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: (B, H, n, D); k, v: (B, H, m, D). Returns (B, H, n, D). Raises UsageError for runs with B > 1."""
        wanted, self.topk = self.topk, False
        if wanted is False:
            return attend(q, k, v)
        if wanted is True:
            return attend(q, *self.keep_best(q[:, :, ::MEAN_STRIDE_COARSE], k, v))
        if q.shape[0] != 1:
            raise UsageError(f"FlashVDM selects keys by run for one object at a time; got a batch of {q.shape[0]}")
        return self._attend_runs(q, k, v, _counts(wanted))

    def select(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the run of queries q: (1, H, n, D), n > 0, may look at."""
        return self.keep_best(q[:, :, ::MEAN_STRIDE_RUNS], k, v)

    @staticmethod
    def keep_best(sample: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Per batch item and head, the keys (and values) whose mean score over ``sample`` (B, H, s, D) is largest."""
        num_keys = k.shape[-2]
        kept = KEPT_KEYS.get(num_keys, num_keys // 3)
        scores = (sample @ k.transpose(-1, -2)).mean(dim=-2)  # (B, H, m)
        best = scores.topk(kept, dim=-1, sorted=False).indices.unsqueeze(-1)
        return (
            torch.gather(k, 2, best.expand(-1, -1, -1, k.shape[-1])),
            torch.gather(v, 2, best.expand(-1, -1, -1, v.shape[-1])),
        )

    def _attend_runs(self, q: Tensor, k: Tensor, v: Tensor, counts: list[int]) -> Tensor:
        results, start = [], 0
        for count in counts:
            run = q[:, :, start : start + count]
            start += count
            if run.shape[2]:
                results.append(attend(run, *self.select(run, k, v)))
        return torch.cat(results, dim=2) if results else q[:, :, :0]


class FlashVDMTopMCrossAttentionProcessor(FlashVDMCrossAttentionProcessor):
    """Runs keep every key that matters to at least one sampled query in the mean over heads ('merge')."""

    def select(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As the base class; the same keys for every head, in ascending order."""
        sample = q[:, :, ::MERGE_STRIDE_RUNS]
        # Unscaled scores: the rule the published decoders were tuned with.
        weights = (sample @ k.transpose(-1, -2)).softmax(dim=-1).mean(dim=1)  # (1, s, m)
        kept = (weights > MERGE_THRESHOLD).any(dim=1)[0].nonzero()[:, 0]
        return k[:, :, kept], v[:, :, kept]


def _counts(runs: Runs) -> list[int]:
    counts = runs[1]
    return counts.tolist() if isinstance(counts, Tensor) else [int(count) for count in counts]
