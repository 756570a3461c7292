"""Attention of the diffusers networks, led through this package's one door.

A processor that does what diffusers' own does, but calls ``attend``, so that ``--attention`` is obeyed by every
attention of the delight and paint networks and of their VAEs. Knows no back end and no network.
"""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from hy3dgen.runtime.attention import attend


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, H·D) -> (B, H, N, D)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def keys_values(attn: Attention, source: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of ``source`` (B, M, C), each (B, H, M, D)."""
    return split_heads(attn.to_k(source), attn.heads), split_heads(attn.to_v(source), attn.heads)


def attend_with(attn: Attention, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Queries of ``x`` (B, N, C) look at ready keys and values (B, H, M, D); (B, N, C) after the output layer."""
    found = attend(split_heads(attn.to_q(x), attn.heads), keys, values)
    return attn.to_out[1](attn.to_out[0](found.transpose(1, 2).flatten(2)))


class AttendProcessor:
    """What ``Attention.processor`` must be: the arithmetic of one attention layer of diffusers, mask included."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states: (B, N, C), or (B, C, height, width) as the VAE gives it; the same shape comes back."""
        residual, x = hidden_states, hidden_states
        if attn.spatial_norm is not None:
            x = attn.spatial_norm(x, temb)
        if residual.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        source = x if encoder_hidden_states is None else encoder_hidden_states
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
            source = x if encoder_hidden_states is None else source
        if encoder_hidden_states is not None and attn.norm_cross:
            source = attn.norm_encoder_hidden_states(source)
        q = split_heads(attn.to_q(x), attn.heads)
        k, v = keys_values(attn, source)
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        mask = attention_mask
        if mask is not None:
            mask = attn.prepare_attention_mask(mask, source.shape[1], source.shape[0])
            mask = mask.view(source.shape[0], attn.heads, -1, mask.shape[-1])
        x = attend(q, k, v, mask=mask).transpose(1, 2).flatten(2)
        x = attn.to_out[1](attn.to_out[0](x))
        if residual.ndim == 4:
            x = x.transpose(1, 2).reshape(residual.shape)
        if attn.residual_connection:
            x = x + residual
        return x / attn.rescale_output_factor


def use_attend(module: nn.Module) -> nn.Module:
    """Lead every diffusers attention inside ``module`` through ``attend``; returns the module."""
    processor = AttendProcessor()
    for part in module.modules():
        if isinstance(part, Attention):
            part.set_processor(processor)  # type: ignore[arg-type]  # diffusers lists its own only
    return module


__all__ = ["AttendProcessor", "attend_with", "keys_values", "split_heads", "use_attend"]
