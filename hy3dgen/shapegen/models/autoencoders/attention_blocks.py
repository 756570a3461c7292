"""Upstream's path of the ShapeVAE's building blocks.

Homes: ``blocks`` (Fourier embedding, attention), ``geometry_decoder``, ``point_encoder``.
"""

from hy3dgen.shapegen.models.autoencoders.blocks import (
    MLP,
    DropPath,
    FourierEmbedder,
    MultiheadAttention,
    MultiheadCrossAttention,
    QKVMultiheadAttention,
    QKVMultiheadCrossAttention,
    ResidualAttentionBlock,
    ResidualCrossAttentionBlock,
    Transformer,
)
from hy3dgen.shapegen.models.autoencoders.geometry_decoder import CrossAttentionDecoder, PreparedLatents
from hy3dgen.shapegen.models.autoencoders.point_encoder import PointCrossAttentionEncoder, fps

__all__ = [
    "FourierEmbedder",
    "DropPath",
    "MLP",
    "QKVMultiheadCrossAttention",
    "MultiheadCrossAttention",
    "ResidualCrossAttentionBlock",
    "QKVMultiheadAttention",
    "MultiheadAttention",
    "ResidualAttentionBlock",
    "Transformer",
    "CrossAttentionDecoder",
    "PreparedLatents",
    "fps",
    "PointCrossAttentionEncoder",
]
