"""``HunYuanDiTPlain``: the denoiser of the 2.1 model. Time is a token in front; skip connections join its halves.

Attribute names are the keys of the published checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import InputError, UsageError
from hy3dgen.shapegen.models.denoisers.halves import Alike, Halves, halves_of
from hy3dgen.shapegen.models.denoisers.hunyuandit_attention import (
    Attention,
    AttentionPool,
    CrossAttention,
    Norm,
    layer_norm,
    rms_norm,
)
from hy3dgen.shapegen.models.denoisers.moe_layers import MoEBlock
from hy3dgen.shapegen.models.sincos import get_1d_sincos_pos_embed_from_grid

POOLED_WIDTH = 1024  # of the pooled condition and of additional condition tokens, whatever context_dim is
# Keys of a condition that ``prepare_condition`` has already worked on.
TOKENS, POOLED = "tokens", "pooled"


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x: (B, N, dim); shift, scale: (B, dim)."""
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Timesteps(nn.Module):
    """t → sines, then cosines, of t·scale at falling frequencies, in float32."""

    def __init__(
        self, num_channels: int, downscale_freq_shift: float = 0.0, scale: float = 1, max_period: float = 10000
    ) -> None:
        super().__init__()
        self.num_channels, self.downscale_freq_shift = num_channels, downscale_freq_shift
        self.scale, self.max_period = scale, max_period

    def forward(self, timesteps: Tensor) -> Tensor:
        """timesteps: (B,). Returns (B, num_channels)."""
        half = self.num_channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device)
        exponents = exponents / (half - self.downscale_freq_shift)
        angles = timesteps.float().unsqueeze(-1) * torch.exp(-math.log(self.max_period) * exponents)
        embedding = torch.cat([(self.scale * angles).sin(), (self.scale * angles).cos()], dim=-1)
        return functional.pad(embedding, (0, 1)) if self.num_channels % 2 else embedding


class TimestepEmbedder(nn.Module):
    """Time → one token."""

    def __init__(
        self,
        hidden_size: int,
        frequency_embedding_size: int = 256,
        cond_proj_dim: int | None = None,
        out_size: int | None = None,
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, frequency_embedding_size),
            nn.GELU(),
            nn.Linear(frequency_embedding_size, hidden_size if out_size is None else out_size),
        )
        self.time_embed = Timesteps(hidden_size)
        if cond_proj_dim is not None:
            self.cond_proj = nn.Linear(cond_proj_dim, frequency_embedding_size, bias=False)

    def forward(self, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """t: (B,) in [0, 1]. Returns (B, 1, hidden_size). Raises UsageError for a guidance condition."""
        if condition is not None:
            raise UsageError(
                "guidance_cond does not work with this denoiser: the projection that its checkpoints would hold has "
                "four times the width of what it must be added to; leave guidance_cond out"
            )
        return self.mlp(self.time_embed(t).to(self.mlp[0].weight.dtype)).unsqueeze(1)


class MLP(nn.Module):
    """Linear to four times the width, exact GELU, Linear back."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.fc1 = nn.Linear(width, width * 4)
        self.fc2 = nn.Linear(width * 4, width)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, width)."""
        return self.fc2(self.gelu(self.fc1(x)))


class HunYuanDiTBlock(nn.Module):
    """(Skip connection,) self-attention, cross-attention, feed-forward; the time token is one of the tokens."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        text_states_dim: int,
        norm_layer: Norm = layer_norm,
        qk_norm: bool = False,
        qk_norm_layer: Norm = rms_norm,
        qkv_bias: bool = True,
        skip_connection: bool = False,
        with_decoupled_ca: bool = False,
        decoupled_ca_dim: int = 16,
        decoupled_ca_weight: float = 1.0,
        use_moe: bool = False,
        num_experts: int = 8,
        moe_top_k: int = 2,
    ) -> None:
        super().__init__()
        self.use_moe = use_moe
        self.norm1 = norm_layer(hidden_size)
        self.attn1 = Attention(hidden_size, num_heads, qkv_bias, qk_norm, qk_norm_layer)
        self.norm2 = norm_layer(hidden_size)
        self.attn2 = CrossAttention(
            hidden_size,
            text_states_dim,
            num_heads,
            qkv_bias,
            qk_norm,
            qk_norm_layer,
            with_decoupled_ca=with_decoupled_ca,
            decoupled_ca_dim=decoupled_ca_dim,
            decoupled_ca_weight=decoupled_ca_weight,
        )
        self.norm3 = norm_layer(hidden_size)
        self.skip_norm = norm_layer(hidden_size) if skip_connection else None
        self.skip_linear = nn.Linear(2 * hidden_size, hidden_size) if skip_connection else None
        if use_moe:
            self.moe = MoEBlock(hidden_size, num_experts, moe_top_k)
        else:
            self.mlp = MLP(width=hidden_size)

    def forward(self, x: Tensor, text_states: Tensor | Halves | Alike, skip_value: Tensor | None = None) -> Tensor:
        """x: (B, N, hidden); text_states: (B, M, context), or what else ``CrossAttention`` takes; skip_value:
        (B, N, hidden) for a block with a skip.
        """
        if self.skip_linear is not None and self.skip_norm is not None:
            assert skip_value is not None
            x = self.skip_norm(self.skip_linear(torch.cat([skip_value, x], dim=-1)))
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), text_states)
        feed_forward = self.moe if self.use_moe else self.mlp
        return x + feed_forward(self.norm3(x))


class FinalLayer(nn.Module):
    """Norm, drop the time token, project to the latents' channels."""

    def __init__(self, final_hidden_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = layer_norm(final_hidden_size)
        self.linear = nn.Linear(final_hidden_size, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, 1 + N, hidden). Returns (B, N, out_channels)."""
        return self.linear(self.norm_final(x)[:, 1:])


class HunYuanDiTPlain(nn.Module):
    """Noisy latents, time and picture tokens → velocity.

    input_size: positions of the table when use_pos_emb, else unused. mlp_ratio is not used, the MLP is always four
    times as wide. norm_type: 'layer', or anything else for RMS norm; qk_norm_type: 'rms', or anything else for
    layer norm. The last num_moe_layers blocks have experts. text_len: condition tokens when use_attention_pooling.
    Raises UsageError for head widths that are no multiple of 8 or over 128.
    """

    def __init__(
        self,
        input_size: int = 1024,
        in_channels: int = 4,
        hidden_size: int = 1024,
        context_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        norm_type: str = "layer",
        qk_norm_type: str = "rms",
        qk_norm: bool = False,
        text_len: int = 257,
        with_decoupled_ca: bool = False,
        additional_cond_hidden_state: int = 768,
        decoupled_ca_dim: int = 16,
        decoupled_ca_weight: float = 1.0,
        use_pos_emb: bool = False,
        use_attention_pooling: bool = True,
        guidance_cond_proj_dim: int | None = None,
        qkv_bias: bool = True,
        num_moe_layers: int = 6,
        num_experts: int = 8,
        moe_top_k: int = 2,
    ) -> None:
        super().__init__()
        if with_decoupled_ca and context_dim != POOLED_WIDTH:
            raise UsageError(f"with_decoupled_ca needs context_dim {POOLED_WIDTH}, got {context_dim}")
        self.input_size, self.depth, self.in_channels, self.out_channels = input_size, depth, in_channels, in_channels
        self.num_heads, self.hidden_size, self.context_dim, self.text_len = (
            num_heads,
            hidden_size,
            context_dim,
            text_len,
        )
        self.norm = layer_norm if norm_type == "layer" else rms_norm
        self.qk_norm = rms_norm if qk_norm_type == "rms" else layer_norm
        self.with_decoupled_ca, self.decoupled_ca_dim = with_decoupled_ca, decoupled_ca_dim
        self.use_pos_emb, self.use_attention_pooling = use_pos_emb, use_attention_pooling

        wide = 4 * hidden_size
        self.x_embedder = nn.Linear(in_channels, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size, wide, cond_proj_dim=guidance_cond_proj_dim)
        if use_pos_emb:
            table = get_1d_sincos_pos_embed_from_grid(hidden_size, np.arange(input_size))
            self.register_buffer("pos_embed", torch.from_numpy(table).float().unsqueeze(0))
        if use_attention_pooling:
            self.pooler = AttentionPool(text_len, context_dim, num_heads=8, output_dim=POOLED_WIDTH)
            self.extra_embedder = _two_layers(POOLED_WIDTH, wide, hidden_size)
        if with_decoupled_ca:
            self.additional_cond_proj = _two_layers(additional_cond_hidden_state, wide, POOLED_WIDTH)
        self.blocks = nn.ModuleList(
            HunYuanDiTBlock(
                hidden_size,
                num_heads,
                text_states_dim=context_dim,
                norm_layer=self.norm,
                qk_norm=qk_norm,
                qk_norm_layer=self.qk_norm,
                qkv_bias=qkv_bias,
                skip_connection=index > depth // 2,
                with_decoupled_ca=with_decoupled_ca,
                decoupled_ca_dim=decoupled_ca_dim,
                decoupled_ca_weight=decoupled_ca_weight,
                use_moe=depth - index <= num_moe_layers,
                num_experts=num_experts,
                moe_top_k=moe_top_k,
            )
            for index in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, self.out_channels)

    def prepare_condition(self, contexts: Mapping[str, Any]) -> dict[str, Any]:
        """What of the condition stays the same over all steps: pass the result instead of ``contexts``.

        contexts: 'main' (B, M, context_dim), and 'additional' (B, decoupled_ca_dim, additional_cond_hidden_state) for
        a decoupled model. Bit for bit the same results as without.
        """
        if TOKENS in contexts:
            return dict(contexts)
        tokens = contexts["main"]
        prepared = {}
        if self.use_attention_pooling:
            prepared[POOLED] = self.extra_embedder(self.pooler(tokens)).unsqueeze(1)
        if self.with_decoupled_ca:
            tokens = torch.cat([tokens, self.additional_cond_proj(contexts["additional"])], dim=1)
        return {TOKENS: tokens, **prepared}

    def prepare_guided(self, contexts: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """As ``prepare_condition``, for a batch [with ; without] the picture, so that a step takes less work.

        Same results but for rounding. None for a decoupled model, and when the tokens without the picture are not all
        alike.
        """
        halves = None if self.with_decoupled_ca else halves_of(contexts["main"])
        return None if halves is None else {**self.prepare_condition(contexts), TOKENS: halves}

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        contexts: Mapping[str, Any],
        guidance_cond: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """x: (B, N, in_channels); t: (B,) in [0, 1], 0 = noise; contexts: see ``prepare_condition``, or what it or
        ``prepare_guided`` returned. Other keywords are for other denoisers. Returns the velocity, (B, N, in_channels).
        """
        condition = self.prepare_condition(contexts)
        time = self.t_embedder(t, condition=guidance_cond)
        if POOLED in condition:
            time = time + condition[POOLED]
        x = self.x_embedder(x)
        if self.use_pos_emb:
            if x.shape[1] != self.input_size:
                raise InputError(f"this denoiser has positions for {self.input_size} latents, got {x.shape[1]}")
            x = x + self.get_buffer("pos_embed").to(x.dtype)
        x = torch.cat([time, x], dim=1)

        middle = self.depth // 2
        skips: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x, condition[TOKENS], skips.pop() if index > middle else None)
            if index < middle:
                skips.append(x)
        return self.final_layer(x)


def _two_layers(width: int, inner: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, out))
