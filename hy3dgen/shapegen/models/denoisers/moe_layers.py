"""Mixture of experts: every token goes through its best few experts and through a shared one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class AddAuxiliaryLoss(torch.autograd.Function):
    """Passes ``x`` on unchanged and sends a gradient of 1 into ``loss`` (training only)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """x: any shape; loss: one value."""
        ctx.loss_like = loss.new_ones(loss.shape)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Gradients of x and of the loss."""
        return gradients[0], ctx.loss_like


class MoEGate(nn.Module):
    """Scores of all experts for every token; the best ``num_experts_per_tok`` are chosen.

    aux_loss_alpha: weight of the loss that keeps the experts equally busy while training.
    """

    def __init__(
        self, embed_dim: int, num_experts: int = 16, num_experts_per_tok: int = 2, aux_loss_alpha: float = 0.01
    ) -> None:
        super().__init__()
        self.top_k, self.n_routed_experts, self.alpha = num_experts_per_tok, num_experts, aux_loss_alpha
        self.weight = nn.Parameter(torch.empty(num_experts, embed_dim))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """hidden_states: (B, n, embed_dim). Returns (experts, probabilities, loss): (B·n, k) each, the probabilities
        not renormalised; loss is None unless training.
        """
        scores = functional.linear(hidden_states.flatten(0, -2), self.weight).softmax(dim=-1)
        probabilities, experts = scores.topk(self.top_k, dim=-1, sorted=False)
        loss = None
        if self.training and self.alpha > 0.0 and torch.is_grad_enabled():
            loss = self._balance_loss(scores.view(*hidden_states.shape[:-1], -1), experts)
        return experts, probabilities, loss

    def _balance_loss(self, scores: Tensor, experts: Tensor) -> Tensor:
        """Per sequence, Σ over experts of (share of the tokens · mean probability); 1·alpha when balanced."""
        chosen = functional.one_hot(experts.view(scores.shape[0], -1), self.n_routed_experts).to(scores.dtype)
        share = chosen.mean(dim=1) * self.n_routed_experts
        return (share * scores.mean(dim=1)).sum(dim=1).mean() * self.alpha


class GELUProjection(nn.Module):
    """Linear and exact GELU."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, dim). Returns (…, inner)."""
        return functional.gelu(self.proj(x))


class FeedForward(nn.Module):
    """Linear to four times the width, exact GELU, Linear back; named as the published keys want it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GELUProjection(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, dim)."""
        return self.net(x)


class MoEBlock(nn.Module):
    """Σ of probability · expert over the chosen experts, plus the shared expert.

    Tokens are sorted by expert, so each expert runs once on its own tokens; the host waits for the device once.
    """

    def __init__(self, dim: int, num_experts: int = 8, moe_top_k: int = 2) -> None:
        super().__init__()
        self.moe_top_k = moe_top_k
        self.experts = nn.ModuleList(FeedForward(dim) for _ in range(num_experts))
        self.gate = MoEGate(dim, num_experts, moe_top_k)
        self.shared_experts = FeedForward(dim)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """hidden_states: (B, n, dim). Returns the same shape."""
        experts, probabilities, loss = self.gate(hidden_states)
        routed = self.route(hidden_states.flatten(0, -2), experts, probabilities)
        if loss is not None:
            routed = AddAuxiliaryLoss.apply(routed, loss)
        return routed.view_as(hidden_states) + self.shared_experts(hidden_states)

    def route(self, tokens: Tensor, experts: Tensor, probabilities: Tensor) -> Tensor:
        """tokens: (T, dim), experts and probabilities: (T, k). Returns (T, dim)."""
        order = experts.flatten().argsort(stable=True)
        counts = experts.flatten().bincount(minlength=len(self.experts)).tolist()
        rows, weights = order // self.moe_top_k, probabilities.flatten()[order].unsqueeze(1)
        result = torch.zeros_like(tokens)
        start = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                own = rows[start : start + count]
                # A token is here at most once, so adding has one order and the sum is reproducible.
                result.index_add_(0, own, expert(tokens[own]) * weights[start : start + count])
            start += count
        return result
