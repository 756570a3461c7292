"""The vision tower of CLIP, with the key names of the published checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hy3dgen.errors import InputError
from hy3dgen.runtime.attention import attend
from hy3dgen.shapegen.models.dinov2 import BackboneConfig, activate


@dataclass(frozen=True)
class CLIPVisionConfig(BackboneConfig):
    """The fields of a transformers CLIPVisionConfig that concern inference. image_size, patch_size: pixels."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5


class Embeddings(nn.Module):
    """Patch tokens behind a class token, with positions for one picture size."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        count = (config.image_size // config.patch_size) ** 2 + 1
        self.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, config.patch_size, stride=config.patch_size, bias=False
        )
        self.position_embedding = nn.Embedding(count, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, image_size, image_size). Returns (B, 1 + patches, hidden)."""
        if pixels.shape[-2:] != (self.image_size, self.image_size):
            raise InputError(
                f"this CLIP encoder takes {self.image_size} px pictures only, got {pixels.shape[-1]}x{pixels.shape[-2]}"
            )
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class Attention(nn.Module):
    """Self-attention."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        q, k, v = (
            part.view(part.shape[0], part.shape[1], self.heads, -1).transpose(1, 2)
            for part in (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        )
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.activation = config.hidden_act
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        return self.fc2(activate(self.activation, self.fc1(x)))


class Layer(nn.Module):
    """Attention and MLP, each added."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """All layers."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, n, hidden)."""
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTransformer(nn.Module):
    """The tower. ``post_layernorm`` is part of every checkpoint but comes after the tokens that are used."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # sic: a published key
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, image_size, image_size). Returns (B, 1 + patches, hidden)."""
        return self.encoder(self.pre_layrnorm(self.embeddings(pixels)))


class CLIPVision(nn.Module):
    """Normalised picture → tokens. The projection to CLIP's joint space is in the checkpoints, but not used."""

    def __init__(self, config: CLIPVisionConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = VisionTransformer(config)
        self.visual_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (B, channels, image_size, image_size), normalised. Returns (B, 1 + patches, hidden)."""
        return self.vision_model(pixels)
