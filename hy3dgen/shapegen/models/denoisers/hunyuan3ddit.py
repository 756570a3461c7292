"""``Hunyuan3DDiT``: the denoiser of the 2.0 models. Two streams (latents, condition) that attend jointly, then one.

Attribute names are the keys of the published checkpoints. No positional encoding: latents are a set.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import UsageError
from hy3dgen.runtime.attention import attend
from hy3dgen.shapegen.models.checkpoints import read_checkpoint
from hy3dgen.shapegen.models.denoisers.halves import (
    Halves,
    Part,
    Parts,
    as_batch,
    attend_parts,
    beside,
    halves_of,
    packed,
    unweave,
    weave,
)

logger = logging.getLogger(__name__)

NORM_EPS = 1e-6
TIME_CHANNELS = 256
# Key of a condition that ``prepare_condition`` has already projected.
PROJECTED = "projected"

Condition = Mapping[str, Any]  # tensors, or what ``halves`` makes of them


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v: (B, H, N, D). Returns (B, N, H·D)."""
    return attend(q, k, v).transpose(1, 2).flatten(2)


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000, time_factor: float = 1000.0) -> Tensor:
    """t: (B,) → (B, dim), cosines then sines of time_factor·t at falling frequencies, in t's dtype.

    The multiplication is done in t's dtype, the angles in float32: they reach 1000 rad, too much for float16.
    """
    half = dim // 2
    scaled = time_factor * t
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = scaled.float().unsqueeze(-1) * torch.exp(-math.log(max_period) * exponents)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    if dim % 2:
        embedding = functional.pad(embedding, (0, 1))
    return embedding.to(t.dtype) if t.is_floating_point() else embedding


class GELU(nn.Module):
    """GELU in its tanh approximation, as the weights were trained with; 'none' is the exact one."""

    def __init__(self, approximate: str = "tanh") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return functional.gelu(x, approximate=self.approximate)


class MLPEmbedder(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, in_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(in_dim, hidden_dim)
        self.silu = nn.SiLU()
        self.out_layer = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, in_dim). Returns (…, hidden_dim)."""
        return self.out_layer(self.silu(self.in_layer(x)))


class RMSNorm(nn.Module):
    """x / √(mean(x²) + 1e-6) in float32, cast back, times ``scale``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, dim)."""
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + NORM_EPS)).to(x.dtype) * self.scale


class QKNorm(nn.Module):
    """RMS norm of queries and keys, in the dtype of the values."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm = RMSNorm(dim)
        self.key_norm = RMSNorm(dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """q, k, v: (…, D)."""
        return self.query_norm(q).to(v.dtype), self.key_norm(k).to(v.dtype)


def split_heads(qkv: Tensor, num_heads: int, norm: QKNorm) -> tuple[Tensor, Tensor, Tensor]:
    """qkv: (B, N, 3·H·D), all queries, all keys, all values → q, k normed, v, each (B, H, N, D)."""
    batch, count, width = qkv.shape
    q, k, v = qkv.view(batch, count, 3, num_heads, width // 3 // num_heads).permute(2, 0, 3, 1, 4)
    return *norm(q, k, v), v


class SelfAttention(nn.Module):
    """The projections of one stream; the attention itself is joint, see ``DoubleStreamBlock``."""

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.norm = QKNorm(dim // num_heads)
        self.proj = nn.Linear(dim, dim)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: (B, N, dim) → q, k, v, each (B, H, N, D)."""
        return split_heads(self.qkv(x), self.num_heads, self.norm)

    def forward(self, x: Tensor) -> Tensor:
        """Plain self-attention. x: (B, N, dim)."""
        return self.proj(attention(*self.heads(x)))


@dataclass(frozen=True)
class ModulationOut:
    """What a block does to its normed input (shift, scale) and to its output (gate), each (B, 1, dim)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, normed: Tensor) -> Tensor:
        """normed: (B, N, dim)."""
        return torch.addcmul(self.shift, normed, 1 + self.scale)

    def leave(self, x: Tensor, change: Tensor) -> Tensor:
        """x + gate · change, in one pass; both (B, N, dim)."""
        return torch.addcmul(x, self.gate, change)


class Modulation(nn.Module):
    """Time vector → one ``ModulationOut``, or two for a block with two branches."""

    def __init__(self, dim: int, double: bool) -> None:
        super().__init__()
        self.is_double = double
        self.multiplier = 6 if double else 3
        self.lin = nn.Linear(dim, self.multiplier * dim)

    def forward(self, vec: Tensor, rows: int | None = None) -> tuple[ModulationOut, ModulationOut | None]:
        """vec: (B, dim); rows: how many of B are wanted.

        The rows of packed halves are equal, but one row alone is multiplied by other kernels than several, on the CPU
        with bits that depend on where the weights lie: so all are, and the others left.
        """
        parts = self.lin(functional.silu(vec))[:rows].unsqueeze(1).chunk(self.multiplier, dim=-1)
        return ModulationOut(*parts[:3]), ModulationOut(*parts[3:]) if self.is_double else None


def _norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, elementwise_affine=False, eps=NORM_EPS)


def _mlp(dim: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, inner), GELU(), nn.Linear(inner, dim))


class DoubleStreamBlock(nn.Module):
    """Latents (img) and condition (txt), each with its own weights, attending to both."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, qkv_bias: bool = False) -> None:
        super().__init__()
        inner = int(hidden_size * mlp_ratio)
        self.hidden_size, self.num_heads = hidden_size, num_heads
        self.img_mod = Modulation(hidden_size, double=True)
        self.img_norm1 = _norm(hidden_size)
        self.img_attn = SelfAttention(hidden_size, num_heads, qkv_bias)
        self.img_norm2 = _norm(hidden_size)
        self.img_mlp = _mlp(hidden_size, inner)
        self.txt_mod = Modulation(hidden_size, double=True)
        self.txt_norm1 = _norm(hidden_size)
        self.txt_attn = SelfAttention(hidden_size, num_heads, qkv_bias)
        self.txt_norm2 = _norm(hidden_size)
        self.txt_mlp = _mlp(hidden_size, inner)

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor, parts: Parts | None = None) -> tuple[Tensor, Tensor]:
        """img: (B, N, hidden), txt: (B, M, hidden), vec: (B or more, hidden); parts: what is packed in them, by
        default one. Returns (img, txt).
        """
        parts = parts or (Part(txt.shape[1]),)
        img_first, img_second = self.img_mod(vec, len(img))
        txt_first, txt_second = self.txt_mod(vec, len(txt))
        img_heads = self.img_attn.heads(img_first.enter(self.img_norm1(img)))
        txt_heads = self.txt_attn.heads(txt_first.enter(self.txt_norm1(txt)))
        q, k, v = (weave(*pair, parts, dim=2) for pair in zip(txt_heads, img_heads, strict=True))
        del img_heads, txt_heads
        txt_found, img_found = unweave(attend_parts(q, k, v, parts), parts)
        del q, k, v

        img = img_first.leave(img, self.img_attn.proj(img_found))
        txt = txt_first.leave(txt, self.txt_attn.proj(txt_found))
        img = img_second.leave(img, self.img_mlp(img_second.enter(self.img_norm2(img))))
        txt = txt_second.leave(txt, self.txt_mlp(txt_second.enter(self.txt_norm2(txt))))
        return img, txt


class SingleStreamBlock(nn.Module):
    """Attention and MLP side by side, between one projection in and one out."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0, qk_scale: float | None = None) -> None:
        super().__init__()
        self.hidden_size, self.num_heads = hidden_size, num_heads
        self.mlp_hidden_dim = int(hidden_size * mlp_ratio)
        self.scale = qk_scale or (hidden_size // num_heads) ** -0.5
        self.linear1 = nn.Linear(hidden_size, hidden_size * 3 + self.mlp_hidden_dim)
        self.linear2 = nn.Linear(hidden_size + self.mlp_hidden_dim, hidden_size)
        self.norm = QKNorm(hidden_size // num_heads)
        self.pre_norm = _norm(hidden_size)
        self.mlp_act = GELU()
        self.modulation = Modulation(hidden_size, double=False)

    def forward(self, x: Tensor, vec: Tensor, parts: Parts | None = None) -> Tensor:
        """x: (B, N, hidden), vec: (B or more, hidden); parts: what is packed in x, by default one."""
        mod, _ = self.modulation(vec, len(x))
        wide = self.linear1(mod.enter(self.pre_norm(x)))
        qkv, hidden = wide.split([3 * self.hidden_size, self.mlp_hidden_dim], dim=-1)
        found = attend_parts(*split_heads(qkv, self.num_heads, self.norm), parts or (Part(0),))
        joined = torch.cat((found, self.mlp_act(hidden)), dim=-1)
        del wide, qkv, hidden
        return mod.leave(x, self.linear2(joined))


class LastLayer(nn.Module):
    """Modulated norm and projection to the latents' channels."""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = _norm(hidden_size)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        """x: (B, N, hidden), vec: (B or more, hidden)."""
        shift, scale = self.adaLN_modulation(vec)[: len(x)].unsqueeze(1).chunk(2, dim=-1)
        return self.linear(torch.addcmul(shift, self.norm_final(x), 1 + scale))


class Hunyuan3DDiT(nn.Module):
    """Noisy latents, time and picture tokens → velocity.

    guidance_embed: the model was distilled and takes the guidance scale as an input. axes_dim and theta change
    nothing but must fit (the published configs carry them). ckpt_path: a training checkpoint to load, strictly.
    Raises UsageError when hidden_size, num_heads and axes_dim do not fit.
    """

    def __init__(
        self,
        in_channels: int = 64,
        context_in_dim: int = 1536,
        hidden_size: int = 1024,
        mlp_ratio: float = 4.0,
        num_heads: int = 16,
        depth: int = 16,
        depth_single_blocks: int = 32,
        axes_dim: Sequence[int] = (64,),
        theta: int = 10_000,
        qkv_bias: bool = True,
        time_factor: float = 1000,
        guidance_embed: bool = False,
        ckpt_path: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise UsageError(f"hidden_size {hidden_size} must be divisible by num_heads {num_heads}")
        if sum(axes_dim) != hidden_size // num_heads:
            raise UsageError(f"axes_dim {list(axes_dim)} must add up to the head width {hidden_size // num_heads}")
        if kwargs:
            logger.warning("Hunyuan3DDiT does not know %s; ignored", ", ".join(sorted(kwargs)))
        self.in_channels = self.out_channels = in_channels
        self.context_in_dim, self.hidden_size, self.mlp_ratio = context_in_dim, hidden_size, mlp_ratio
        self.num_heads, self.depth, self.depth_single_blocks = num_heads, depth, depth_single_blocks
        self.axes_dim, self.theta, self.qkv_bias = list(axes_dim), theta, qkv_bias
        self.time_factor, self.guidance_embed = time_factor, guidance_embed

        self.latent_in = nn.Linear(in_channels, hidden_size)
        self.time_in = MLPEmbedder(TIME_CHANNELS, hidden_size)
        self.cond_in = nn.Linear(context_in_dim, hidden_size)
        self.guidance_in = MLPEmbedder(TIME_CHANNELS, hidden_size) if guidance_embed else nn.Identity()
        self.double_blocks = nn.ModuleList(
            DoubleStreamBlock(hidden_size, num_heads, mlp_ratio, qkv_bias) for _ in range(depth)
        )
        self.single_blocks = nn.ModuleList(
            SingleStreamBlock(hidden_size, num_heads, mlp_ratio) for _ in range(depth_single_blocks)
        )
        self.final_layer = LastLayer(hidden_size, 1, self.out_channels)
        if ckpt_path is not None:
            self.load_state_dict(read_checkpoint(ckpt_path, strip_prefixes=("_forward_module.", "model.")))
            self.eval()

    def prepare_condition(self, contexts: Condition) -> Condition:
        """What of the condition stays the same over all steps: pass the result instead of ``contexts``.

        contexts: 'main' (B, M, context_in_dim). Bit for bit the same results as without.
        """
        if PROJECTED in contexts:
            return dict(contexts)
        return {PROJECTED: self.cond_in(contexts["main"])}

    def prepare_guided(self, contexts: Mapping[str, Tensor]) -> dict[str, Halves] | None:
        """As ``prepare_condition``, for a batch [with ; without] the picture, so that a step takes less work.

        Same results but for rounding. None when the tokens without the picture are not all alike.
        """
        halves = halves_of(contexts["main"])
        return None if halves is None else {PROJECTED: halves.through(self.cond_in)}

    def time_vector(self, t: Tensor, guidance: Tensor | None, dtype: torch.dtype) -> Tensor:
        """t, guidance: (B,). Returns (B, hidden_size). Raises UsageError when a distilled model gets no guidance."""
        # The third argument is max_period, not time_factor: what the published weights were trained with.
        vec = self.time_in(timestep_embedding(t, TIME_CHANNELS, self.time_factor).to(dtype))
        if not self.guidance_embed:
            return vec
        if guidance is None:
            raise UsageError("this denoiser is distilled: it needs guidance=, a tensor with the scale of every item")
        return vec + self.guidance_in(timestep_embedding(guidance, TIME_CHANNELS, self.time_factor).to(dtype))

    def forward(
        self, x: Tensor, t: Tensor, contexts: Condition, guidance: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """x: (B, N, in_channels); t: (B,) in [0, 1], 0 = noise; contexts: 'main' (B, M, context_in_dim), or what
        ``prepare_condition`` or ``prepare_guided`` returned; after the latter the halves of t must be equal.
        guidance: (B,), for distilled models. Other keywords are for other denoisers.

        Returns the velocity, (B, N, in_channels).
        """
        cond, parts = packed(self.prepare_condition(contexts)[PROJECTED])
        latent = self.latent_in(beside(x, parts))
        vec = self.time_vector(t, guidance, latent.dtype)
        for block in self.double_blocks:
            latent, cond = block(latent, cond, vec, parts)
        tokens = weave(cond, latent, parts)
        del cond, latent
        for block in self.single_blocks:
            tokens = block(tokens, vec, parts)
        _, latent = unweave(tokens, parts)
        return as_batch(self.final_layer(latent, vec), parts)
