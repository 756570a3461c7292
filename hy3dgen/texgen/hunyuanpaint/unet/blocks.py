"""The transformer block of the paint UNet: diffusers' block with two more attentions beside its self-attention."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from hy3dgen.errors import UsageError
from hy3dgen.texgen.attention import AttendProcessor, attend_with
from hy3dgen.texgen.hunyuanpaint.unet.conditions import Conditions


class LastLayerReached(Exception):
    """No error: ends the reference stream when its last block has written its features; nothing is read behind."""


class Basic2p5DTransformerBlock(nn.Module):
    """Wraps one block; adds attention over all views (``use_ma``) and over the reference pictures (``use_ra``).

    Attributes that are not found here are looked up in the wrapped block.
    Raises UsageError for a block that no UNet2DConditionModel of this family contains (adaptive norms, GLIGEN, …).
    """

    def __init__(
        self,
        transformer: BasicTransformerBlock,
        layer_name: str,
        use_ma: bool = True,
        use_ra: bool = True,
        is_turbo: bool = False,
    ) -> None:
        super().__init__()
        _check_plain(transformer, layer_name)
        self.transformer: Any = transformer
        self.layer_name = layer_name
        self.use_ma, self.use_ra, self.is_turbo = use_ma, use_ra, is_turbo
        self.is_last = False
        if use_ma:
            self.attn_multiview = self._attention()
        if use_ra:
            self.attn_refview = self._attention()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("transformer"), name)

    def _attention(self) -> Attention:
        inner = self.transformer
        made = Attention(
            query_dim=inner.dim,
            heads=inner.num_attention_heads,
            dim_head=inner.attention_head_dim,
            dropout=inner.dropout,
            bias=inner.attention_bias,
            upcast_attention=inner.attn1.upcast_attention,
            out_bias=True,
            processor=AttendProcessor(),  # type: ignore[arg-type]  # diffusers lists its own only
        )
        if self.is_turbo:  # as a start for training: a copy that adds nothing yet
            made.load_state_dict(inner.attn1.state_dict())
            for parameter in made.to_out.parameters():
                nn.init.zeros_(parameter)
        return made

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """hidden_states: ((b n), L, C), the n views of a guidance row lie together; returns the same shape.

        cross_attention_kwargs: ``mode`` ('w': write this layer's features into ``condition_embed_dict`` as
        (b, n·L, C); 'r': read the reference), ``conditions``, ``num_in_batch`` (n, default 1), ``mva_scale``.
        """
        given = cross_attention_kwargs or {}
        mode, conditions = given["mode"], given["conditions"]
        views = given.get("num_in_batch", 1)
        inner, x = self.transformer, hidden_states
        h = inner.norm1(x)
        if "w" in mode:
            given["condition_embed_dict"][self.layer_name] = h.unflatten(0, (-1, views)).flatten(1, 2)
            if self.is_last:
                raise LastLayerReached
        # The three attentions in front are parallel branches: all of them look from the same normalised input.
        x = inner.attn1(h, attention_mask=attention_mask) + x
        first = x.shape[0] - conditions.rows * views  # views before this one are unconditional
        if "r" in mode and self.use_ra and conditions.rows:
            x = _added(x, self._reference(h[first:], conditions, views), first)
        if views > 1 and self.use_ma:
            scale = 1.0 if self.is_turbo else given.get("mva_scale", 1.0)
            x = _added(x, scale * self.attn_multiview(h.unflatten(0, (-1, views)).flatten(1, 2)).view_as(x))
        del h
        x = self._add_text(x, first, conditions, views)
        return _added(x, self._feed_forward(inner.norm3(x)))

    def _reference(self, h: Tensor, conditions: Conditions, views: int) -> Tensor:
        keys, values = conditions.reference_of(self.layer_name, self.attn_refview)
        folded = h.unflatten(0, (-1, views)).flatten(1, 2)  # all views of a row share its keys: no copies of them
        found = attend_with(self.attn_refview, folded, keys, values).view_as(h)
        if self.is_turbo:
            return found
        return _per_view(conditions.ref_scale, views, found) * found

    def _add_text(self, x: Tensor, first: int, conditions: Conditions, views: int) -> Tensor:
        attn = self.transformer.attn2
        if first:  # zero text through bias-free keys and values: what is left is the output bias, bit for bit
            bias = attn.to_out[0].bias
            if bias is not None:
                x = _added(x, bias, 0, first)
        if conditions.rows:
            keys, values = conditions.text_of(self.layer_name, attn)
            folded = self.transformer.norm2(x[first:]).unflatten(0, (-1, views)).flatten(1, 2)
            x = _added(x, attend_with(attn, folded, keys, values).view_as(x[first:]), first)
        return x

    def _feed_forward(self, x: Tensor) -> Tensor:
        size, dim = self.transformer._chunk_size, self.transformer._chunk_dim
        if size is None:
            return self.transformer.ff(x)
        return torch.cat([self.transformer.ff(part) for part in x.split(size, dim=dim)], dim=dim)


def _added(x: Tensor, part: Tensor, first: int = 0, end: int | None = None) -> Tensor:
    """x with ``part`` added to its rows from ``first`` to ``end``: in place, unless gradients still need what x was."""
    if not torch.is_grad_enabled():
        x[first:end] += part
        return x
    if first == 0 and end is None:
        return x + part
    rest = x.shape[0] if end is None else end
    return torch.cat([x[:first], x[first:end] + part, x[rest:]])


def _per_view(scale: Tensor | float, views: int, like: Tensor) -> Tensor | float:
    """One number as it is; one number a row -> ((b n), 1, 1)."""
    if not isinstance(scale, Tensor) or scale.ndim == 0:
        return scale
    return scale.to(like).repeat_interleave(views)[:, None, None]


def _check_plain(block: BasicTransformerBlock, name: str) -> None:
    unsupported = {
        f"norm type '{block.norm_type}'": block.norm_type != "layer_norm",
        "positional embeddings": block.pos_embed is not None,
        "cross attention only": block.only_cross_attention,
        "no cross attention": block.attn2 is None,
        "a self-attention in place of the text attention": block.attn2 is not None
        and not block.attn2.is_cross_attention,
        "GLIGEN": hasattr(block, "fuser"),
        "biased text keys": block.attn2 is not None and block.attn2.to_k.bias is not None,
    }
    for what, present in unsupported.items():
        if present:
            raise UsageError(
                f"block {name} of this UNet has {what}, which the paint network does not support; "
                "use a UNet2DConditionModel with plain transformer blocks, as the official checkpoints have"
            )
