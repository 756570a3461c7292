"""Attention layers of ``HunYuanDiTPlain``: of the latents among themselves, to the condition, and pooling.

Attribute names and the order in which heads take their channels out of the projections are those of the published
weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import InputError, UsageError
from hy3dgen.runtime.attention import attend
from hy3dgen.shapegen.models.denoisers.halves import Alike, Halves

NORM_EPS = 1e-6

Norm = Callable[[int], nn.Module]


def layer_norm(dim: int) -> nn.Module:
    """Layer norm with weights."""
    return nn.LayerNorm(dim, eps=NORM_EPS)


def rms_norm(dim: int) -> nn.Module:
    """RMS norm with weights."""
    return nn.RMSNorm(dim, eps=NORM_EPS)


def _check_heads(width: int, num_heads: int) -> int:
    head = width // num_heads
    if width % num_heads or head % 8 or head > 128:
        raise UsageError(f"{num_heads} heads at width {width}: the head width must be a multiple of 8, at most 128")
    return head


def _join_heads(found: Tensor) -> Tensor:
    return found.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Latents look at the condition; with ``with_dca`` also at additional tokens through weights of their own."""

    def __init__(
        self,
        qdim: int,
        kdim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        norm_layer: Norm = layer_norm,
        with_decoupled_ca: bool = False,
        decoupled_ca_dim: int = 16,
        decoupled_ca_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, _check_heads(qdim, num_heads)
        self.to_q = nn.Linear(qdim, qdim, bias=qkv_bias)
        self.to_k = nn.Linear(kdim, qdim, bias=qkv_bias)
        self.to_v = nn.Linear(kdim, qdim, bias=qkv_bias)
        self.q_norm = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        self.out_proj = nn.Linear(qdim, qdim)
        self.with_dca, self.dca_dim, self.dca_weight = with_decoupled_ca, decoupled_ca_dim, decoupled_ca_weight
        if with_decoupled_ca:
            self.kv_proj_dca = nn.Linear(kdim, 2 * qdim, bias=qkv_bias)
            self.k_norm_dca = norm_layer(self.head_dim) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, y: Tensor | Halves | Alike) -> Tensor:
        """x: (B, N, qdim); y: (B, M, kdim), the last decoupled_ca_dim tokens being the additional ones. Halves are for
        a batch [with ; without] in x; neither they nor equal tokens go with additional ones.

        Returns (B, N, qdim).
        """
        count = x.shape[1]
        if isinstance(y, Halves):
            return self._in_halves(x, y)
        if isinstance(y, Alike):
            return self.out_proj(_join_heads(self._keys_values(y.token)[1])).expand(-1, count, -1)
        num_additional = self.dca_dim if self.with_dca else 0
        tokens, additional = y.split([y.shape[1] - num_additional, num_additional], dim=1)
        q = self._queries(x)
        found = _join_heads(attend(q, *self._keys_values(tokens)))
        if self.with_dca:
            found = found + self.dca_weight * self._look_at_additional(q, additional)
        return self.out_proj(found)

    def _in_halves(self, x: Tensor, y: Halves) -> Tensor:
        """Whoever looks at equal tokens alone finds their value: the half without the picture needs no queries."""
        count = x.shape[1]
        k, v = self._keys_values(y.packed())
        found = attend(self._queries(x.chunk(2)[0]), k[:, :, :-1], v[:, :, :-1])
        out = self.out_proj(torch.cat([_join_heads(found), _join_heads(v[:, :, -1:])], dim=1))
        return torch.cat([out[:, :count], out[:, count:].expand(-1, count, -1)])

    def _queries(self, x: Tensor) -> Tensor:
        """x: (B, N, qdim) → (B, H, N, D)."""
        q = self.to_q(x).view(x.shape[0], x.shape[1], self.num_heads, self.head_dim)
        return self.q_norm(q).transpose(1, 2)

    def _keys_values(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y: (B, M, kdim) → k, v, each (B, H, M, D)."""
        # A head takes its key and its value from neighbouring channels of keys ⊕ values, so that the first half of the
        # heads finds both in to_k. The published weights were trained like this.
        kv = torch.cat([self.to_k(y), self.to_v(y)], dim=-1).view(y.shape[0], -1, self.num_heads, 2 * self.head_dim)
        k, v = kv.chunk(2, dim=-1)
        return self.k_norm(k).transpose(1, 2), v.transpose(1, 2)

    def _look_at_additional(self, q: Tensor, y: Tensor) -> Tensor:
        kv = self.kv_proj_dca(y).view(y.shape[0], y.shape[1], 2, self.num_heads, self.head_dim)
        k, v = kv.unbind(dim=2)
        return _join_heads(attend(q, self.k_norm_dca(k).transpose(1, 2), v.transpose(1, 2)))


class Attention(nn.Module):
    """Self-attention."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        norm_layer: Norm = layer_norm,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim = num_heads, _check_heads(dim, num_heads)
        self.to_q = nn.Linear(dim, dim, bias=qkv_bias)
        self.to_k = nn.Linear(dim, dim, bias=qkv_bias)
        self.to_v = nn.Linear(dim, dim, bias=qkv_bias)
        self.q_norm = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        self.k_norm = norm_layer(self.head_dim) if qk_norm else nn.Identity()
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, N, dim)."""
        batch, count, _ = x.shape
        # Head r takes three neighbouring blocks of queries ⊕ keys ⊕ values: a query may come from to_k or to_v.
        # The published weights were trained like this.
        joined = torch.cat([self.to_q(x), self.to_k(x), self.to_v(x)], dim=-1)
        q, k, v = joined.view(batch, count, self.num_heads, 3 * self.head_dim).chunk(3, dim=-1)
        q, k = self.q_norm(q), self.k_norm(k)
        return self.out_proj(_join_heads(attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))))


class AttentionPool(nn.Module):
    """Tokens → one vector: their mean looks at all of them and at itself."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(spacial_dim + 1, embed_dim) / embed_dim**0.5)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim or embed_dim)
        self.num_heads = num_heads

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """x: (B, spacial_dim, embed_dim). attention_mask: (B, spacial_dim), 1 = use. Returns (B, output_dim)."""
        if x.shape[1] + 1 != self.positional_embedding.shape[0]:
            raise InputError(
                f"the pooled condition must have {self.positional_embedding.shape[0] - 1} tokens (text_len), "
                f"got {x.shape[1]}"
            )
        mask = None
        if attention_mask is None:
            mean = x.mean(dim=1, keepdim=True)
        else:
            used = attention_mask.to(x.dtype).unsqueeze(-1)
            mean = (x * used).sum(dim=1, keepdim=True) / used.sum(dim=1, keepdim=True)
            mask = functional.pad(attention_mask.bool(), (1, 0), value=True)[:, None, None, :]
        tokens = torch.cat([mean, x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = (
            part.view(part.shape[0], part.shape[1], self.num_heads, -1).transpose(1, 2)
            for part in (self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens))
        )
        return self.c_proj(_join_heads(attend(q, k, v, mask=mask)))[:, 0]
