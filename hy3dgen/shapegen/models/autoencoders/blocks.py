"""Building blocks of the ShapeVAE: Fourier embedding, attention and residual blocks.

Attribute names are the keys of the published checkpoints. Layer norms use eps 1e-6 unless a class says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hy3dgen.runtime.attention import attend
from hy3dgen.shapegen.models.autoencoders.attention_processors import CrossAttentionProcessor

NORM_EPS = 1e-6
Processor = Callable[[nn.Module | None, Tensor, Tensor, Tensor], Tensor]


class FourierEmbedder(nn.Module):
    """x → x ⊕ sin(x·f) ⊕ cos(x·f), coordinate by coordinate.

    num_freqs: number of frequencies, powers of two when ``logspace``, else evenly spaced up to the same maximum;
    times π when ``include_pi``. The frequencies are no parameters and no buffers, so a module built on the meta
    device has nothing left to fill.
    """

    def __init__(
        self,
        num_freqs: int = 6,
        logspace: bool = True,
        input_dim: int = 3,
        include_input: bool = True,
        include_pi: bool = True,
    ) -> None:
        super().__init__()
        self.num_freqs, self.logspace, self.include_pi = num_freqs, logspace, include_pi
        self.include_input = include_input
        self.out_dim = input_dim * (2 * num_freqs + (1 if include_input or num_freqs == 0 else 0))
        self._cached: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @property
    def frequencies(self) -> Tensor:
        """(num_freqs,) float32, on the CPU."""
        with torch.inference_mode(False):
            if self.logspace:
                values = 2.0 ** torch.arange(self.num_freqs, dtype=torch.float32, device="cpu")
            else:
                values = torch.linspace(1.0, 2.0 ** (self.num_freqs - 1), self.num_freqs, device="cpu")
            return values * math.pi if self.include_pi else values

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, input_dim), floating. Returns (…, out_dim) in x's dtype."""
        if self.num_freqs == 0:
            return x
        angles = (x.unsqueeze(-1) * self._frequencies_like(x)).flatten(-2)
        parts = [x] if self.include_input else []
        return torch.cat([*parts, angles.sin(), angles.cos()], dim=-1)

    def _frequencies_like(self, x: Tensor) -> Tensor:
        key = (x.device, x.dtype)
        if key not in self._cached:
            self._cached = {key: self.frequencies.to(x.device, x.dtype)}
        return self._cached[key]


class DropPath(nn.Module):
    """Drop whole samples of a residual branch while training; nothing otherwise."""

    def __init__(self, drop_prob: float = 0.0, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, …). Returns the same shape."""
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (mask / keep if self.scale_by_keep and keep > 0.0 else mask)


class MLP(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(
        self, *, width: int, expand_ratio: int = 4, output_width: int | None = None, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, width * expand_ratio)
        self.c_proj = nn.Linear(width * expand_ratio, width if output_width is None else output_width)
        self.gelu = nn.GELU()
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, width). Returns (…, output_width)."""
        return self.drop_path(self.c_proj(self.gelu(self.c_fc(x))))


def _head_norm(width: int, heads: int, qk_norm: bool) -> nn.Module:
    return nn.LayerNorm(width // heads, eps=NORM_EPS) if qk_norm else nn.Identity()


class QKVMultiheadCrossAttention(nn.Module):
    """Attention of projected queries over projected latents; ``attn_processor`` decides over which of them."""

    def __init__(self, *, heads: int, width: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.q_norm = _head_norm(width, heads, qk_norm)
        self.k_norm = _head_norm(width, heads, qk_norm)
        self.attn_processor: Processor = CrossAttentionProcessor()

    def split_queries(self, q: Tensor) -> Tensor:
        """q: (B, n, width) → normed (B, H, n, D)."""
        batch, count, width = q.shape
        return self.q_norm(q.view(batch, count, self.heads, width // self.heads)).transpose(1, 2)

    def split_keys(self, kv: Tensor) -> tuple[Tensor, Tensor]:
        """kv: (B, m, 2·width), per head key then value → normed key and value, each (B, H, m, D) contiguous."""
        batch, count, width = kv.shape
        k, v = kv.view(batch, count, self.heads, width // self.heads).chunk(2, dim=-1)
        return self.k_norm(k).transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q: (B, H, n, D); k, v: (B, H, m, D). Returns (B, n, width)."""
        return self.attn_processor(self, q, k, v).transpose(1, 2).flatten(2)

    def forward(self, q: Tensor, kv: Tensor) -> Tensor:
        """q: (B, n, width); kv: (B, m, 2·width). Returns (B, n, width)."""
        return self.attend(self.split_queries(q), *self.split_keys(kv))


class MultiheadCrossAttention(nn.Module):
    """Projections around ``QKVMultiheadCrossAttention``. qkv_bias concerns c_q and c_kv; c_proj always has a bias."""

    def __init__(
        self, *, width: int, heads: int, qkv_bias: bool = True, data_width: int | None = None, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.c_q = nn.Linear(width, width, bias=qkv_bias)
        self.c_kv = nn.Linear(width if data_width is None else data_width, width * 2, bias=qkv_bias)
        self.c_proj = nn.Linear(width, width)
        self.attention = QKVMultiheadCrossAttention(heads=heads, width=width, qk_norm=qk_norm)

    def forward(self, x: Tensor, data: Tensor) -> Tensor:
        """x: (B, n, width); data: (B, m, data_width). Returns (B, n, width)."""
        return self.c_proj(self.attention(self.c_q(x), self.c_kv(data)))


class ResidualCrossAttentionBlock(nn.Module):
    """x + attention(x, data), then x + MLP(x), each on layer-normed input."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        mlp_expand_ratio: int = 4,
        data_width: int | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        data_width = width if data_width is None else data_width
        self.attn = MultiheadCrossAttention(
            width=width, heads=heads, qkv_bias=qkv_bias, data_width=data_width, qk_norm=qk_norm
        )
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.ln_2 = nn.LayerNorm(data_width, eps=NORM_EPS)
        self.ln_3 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width=width, expand_ratio=mlp_expand_ratio)

    def project_data(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """data: (B, m, data_width) → key and value, each (B, H, m, D); all that a query needs to know of the data."""
        return self.attn.attention.split_keys(self.attn.c_kv(self.ln_2(data)))

    def query(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """x: (B, n, width); key, value from ``project_data``. Returns (B, n, width)."""
        attention = self.attn.attention
        # Nothing that is done with has a name any more when the MLP needs its room.
        x = x + self.attn.c_proj(attention.attend(attention.split_queries(self.attn.c_q(self.ln_1(x))), key, value))
        return x + self.mlp(self.ln_3(x))

    def forward(self, x: Tensor, data: Tensor) -> Tensor:
        """x: (B, n, width); data: (B, m, data_width). Returns (B, n, width)."""
        return self.query(x, *self.project_data(data))


class QKVMultiheadAttention(nn.Module):
    """Self-attention of a joint projection."""

    def __init__(self, *, heads: int, width: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.q_norm = _head_norm(width, heads, qk_norm)
        self.k_norm = _head_norm(width, heads, qk_norm)

    def forward(self, qkv: Tensor) -> Tensor:
        """qkv: (B, n, 3·width), per head query, key, value. Returns (B, n, width)."""
        batch, count, width = qkv.shape
        q, k, v = qkv.view(batch, count, self.heads, width // self.heads).chunk(3, dim=-1)
        q, k, v = (part.transpose(1, 2) for part in (self.q_norm(q), self.k_norm(k), v))
        return attend(q, k, v).transpose(1, 2).flatten(2)


class MultiheadAttention(nn.Module):
    """Projections around ``QKVMultiheadAttention``."""

    def __init__(
        self, *, width: int, heads: int, qkv_bias: bool = True, qk_norm: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.c_qkv = nn.Linear(width, width * 3, bias=qkv_bias)
        self.c_proj = nn.Linear(width, width)
        self.attention = QKVMultiheadAttention(heads=heads, width=width, qk_norm=qk_norm)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, width). Returns (B, n, width)."""
        return self.drop_path(self.c_proj(self.attention(self.c_qkv(x))))


class ResidualAttentionBlock(nn.Module):
    """x + attention(x), then x + MLP(x), each on layer-normed input."""

    def __init__(
        self, *, width: int, heads: int, qkv_bias: bool = True, qk_norm: bool = False, drop_path_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.attn = MultiheadAttention(
            width=width, heads=heads, qkv_bias=qkv_bias, qk_norm=qk_norm, drop_path_rate=drop_path_rate
        )
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = MLP(width=width, drop_path_rate=drop_path_rate)
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, width). Returns (B, n, width)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of ``ResidualAttentionBlock``."""

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(
                width=width, heads=heads, qkv_bias=qkv_bias, qk_norm=qk_norm, drop_path_rate=drop_path_rate
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, width). Returns (B, n, width)."""
        for block in self.resblocks:
            x = block(x)
        return x
