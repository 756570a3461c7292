"""DINOv2: a vision transformer, with the key names of the published checkpoints (transformers 4).

transformers 5 renamed these keys and takes seconds to import; this module needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import InputError, UsageError
from hy3dgen.runtime.attention import attend

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_new": lambda x: functional.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": functional.relu,
    "silu": functional.silu,
}


def activate(name: str, x: Tensor) -> Tensor:
    """Apply an activation by its name in a transformers config. Raises UsageError for an unknown one."""
    if name not in ACTIVATIONS:
        raise UsageError(f"unknown hidden_act '{name}' in the image encoder's config; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name](x)


class BackboneConfig:
    """Reads itself from a transformers config; fields that do not concern inference are left out."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """values: a transformers config as a mapping."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Dinov2Config(BackboneConfig):
    """The fields of a transformers Dinov2Config that concern inference. image_size, patch_size: pixels."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: int = 4
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False


class PatchEmbeddings(nn.Module):
    """Picture → one token per patch, row by row."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        patch = config.patch_size
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, kernel_size=patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, h, w). Returns (B, tokens, hidden)."""
        return self.projection(pixels).flatten(2).transpose(1, 2)


class Embeddings(nn.Module):
    """Patch tokens behind a class token, with positions."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.mask_token = nn.Parameter(torch.zeros(1, config.hidden_size))  # stored, never used at inference
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.grid**2, config.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, h, w). Returns (B, 1 + tokens, hidden)."""
        rows, columns = pixels.shape[-2] // self.patch_size, pixels.shape[-1] // self.patch_size
        if not rows or not columns:
            raise InputError(
                f"a picture of {pixels.shape[-1]}x{pixels.shape[-2]} is smaller than one {self.patch_size} px patch"
            )
        patches = self.patch_embeddings(pixels)
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return tokens + self.positions(rows, columns)

    def positions(self, rows: int, columns: int) -> Tensor:
        """(1, 1 + rows·columns, hidden): the table, resampled when the picture's grid is not the config's."""
        if rows == columns == self.grid:
            return self.position_embeddings
        first, table = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        grid = table.view(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        resampled = functional.interpolate(grid.float(), size=(rows, columns), mode="bicubic", align_corners=False)
        return torch.cat([first, resampled.to(table.dtype).permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


class HeadProjections(nn.Module):
    """Queries, keys, values."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=config.qkv_bias)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        q, k, v = (
            part.view(part.shape[0], part.shape[1], self.heads, -1).transpose(1, 2)
            for part in (self.query(x), self.key(x), self.value(x))
        )
        return attend(q, k, v).transpose(1, 2).flatten(2)


class AttentionOutput(nn.Module):
    """The projection after the attention."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        return self.dense(x)


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.attention = HeadProjections(config)
        self.output = AttentionOutput(config)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        return self.output(self.attention(x))


class LayerScale(nn.Module):
    """One learned factor a channel."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        return x * self.lambda1


class MLP(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        inner = int(config.hidden_size * config.mlp_ratio)
        self.activation = config.hidden_act
        self.fc1 = nn.Linear(config.hidden_size, inner)
        self.fc2 = nn.Linear(inner, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        return self.fc2(activate(self.activation, self.fc1(x)))


class SwiGLUFFN(nn.Module):
    """SiLU(a)·b of one projection's halves, Linear; two thirds of the MLP's width, rounded up to eight."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        inner = (int(int(config.hidden_size * config.mlp_ratio) * 2 / 3) + 7) // 8 * 8
        self.weights_in = nn.Linear(config.hidden_size, 2 * inner)
        self.weights_out = nn.Linear(inner, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        gate, value = self.weights_in(x).chunk(2, dim=-1)
        return self.weights_out(functional.silu(gate) * value)


class Layer(nn.Module):
    """Attention and feed-forward, each scaled and added."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.layer_scale1 = LayerScale(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SwiGLUFFN(config) if config.use_swiglu_ffn else MLP(config)
        self.layer_scale2 = LayerScale(config)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class Encoder(nn.Module):
    """All layers."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        for layer in self.layer:
            x = layer(x)
        return x


class Dinov2(nn.Module):
    """Normalised picture → tokens."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, h, w), normalised. Returns (B, 1 + patches, hidden), class token first."""
        return self.layernorm(self.encoder(self.embeddings(pixels)))
