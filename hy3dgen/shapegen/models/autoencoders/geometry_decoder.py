"""The network that answers 'how far inside is this point?' from the latents of a shape.

Keys and values of the latents are projected once per shape (``prepare``); after that every point is independent
(``query``). It knows nothing of grids: which points to ask for is the volume decoders' business.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hy3dgen.errors import UsageError
from hy3dgen.shapegen.models.autoencoders.attention_processors import CrossAttentionProcessor
from hy3dgen.shapegen.models.autoencoders.blocks import FourierEmbedder, Processor, ResidualCrossAttentionBlock

# Values of the MLP's hidden layer computed at once on a CPU: 4 MiB in float32. Measured at width 256 (2 cores, 1 MiB of
# second-level cache each): 110 k points a second in tiles of 1024, 77 k in one piece of 16384.
TILE_VALUES = 1 << 20
# The same on a GPU, for its memory's sake: 16 MiB in float16, 2048 points of the published decoder. With twice as much
# a decode took 186 MiB beside the weights on an H100, 66 of them cuBLAS's own; it is to stay under 150 where nobody
# says that there is room for more (``tile_points``, which memory plans set).
DEVICE_TILE_VALUES = 1 << 23
# The Fourier embedding, 102 bytes a point in float16, is made for so many tiles at a time: it is four of the nineteen
# kernels of a tile, and small tiles are bound by how fast kernels can be asked for.
WAVES_OF_TILES = 8


@dataclass(frozen=True)
class PreparedLatents:
    """What ``CrossAttentionDecoder.query`` needs to know of a shape.

    key, value: (B, H, N, D), one dtype and device; dtype: what the queries are computed in.
    """

    key: Tensor
    value: Tensor

    @property
    def dtype(self) -> torch.dtype:
        return self.key.dtype

    def expand(self, batch: int) -> PreparedLatents:
        """The same shape for ``batch`` items, without copying; the batch must be 1 before."""
        return PreparedLatents(self.key.expand(batch, -1, -1, -1), self.value.expand(batch, -1, -1, -1))


class CrossAttentionDecoder(nn.Module):
    """Points and latents → field values, positive inside.

    width, heads: of the latents; both are divided by ``downsample_ratio`` here. Without ``enable_ln_post`` there is
    no q/k norm either, as in the published small decoders.
    """

    def __init__(
        self,
        *,
        num_latents: int,
        out_channels: int,
        fourier_embedder: FourierEmbedder,
        width: int,
        heads: int,
        downsample_ratio: int = 1,
        mlp_expand_ratio: int = 4,
        enable_ln_post: bool = True,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        label_type: str = "binary",
    ) -> None:
        super().__init__()
        self.num_latents, self.label_type = num_latents, label_type
        self.enable_ln_post, self.downsample_ratio = enable_ln_post, downsample_ratio
        self.fourier_embedder = fourier_embedder
        inner, inner_heads = width // downsample_ratio, heads // downsample_ratio
        self.query_proj = nn.Linear(fourier_embedder.out_dim, inner)
        if downsample_ratio != 1:
            self.latents_proj = nn.Linear(width, inner)
        self.cross_attn_decoder = ResidualCrossAttentionBlock(
            width=inner,
            heads=inner_heads,
            mlp_expand_ratio=mlp_expand_ratio,
            qkv_bias=qkv_bias,
            qk_norm=qk_norm and enable_ln_post,
        )
        if enable_ln_post:
            self.ln_post = nn.LayerNorm(inner)  # torch's own eps of 1e-5, unlike every other norm here
        self.output_proj = nn.Linear(inner, out_channels)

    def set_cross_attention_processor(self, processor: Processor) -> None:
        """Use this processor for every query from now on; see ``attention_processors``."""
        self.cross_attn_decoder.attn.attention.attn_processor = processor

    def set_default_cross_attention_processor(self) -> None:
        """Look at all latents again."""
        self.set_cross_attention_processor(CrossAttentionProcessor())

    def prepare(self, latents: Tensor) -> PreparedLatents:
        """latents: (B, N, width), the features after the VAE's transformer. Once per shape."""
        if self.downsample_ratio != 1:
            latents = self.latents_proj(latents)
        return PreparedLatents(*self.cross_attn_decoder.project_data(latents))

    def query(self, points: Tensor, prepared: PreparedLatents, *, tile_points: int | None = None) -> Tensor:
        """points: (B, P, 3) in the box's units, any float dtype (the angles are computed in it).

        tile_points: how many to take at once, over the whole batch; None for tiles that stay in a CPU's cache, or
        small on a GPU. Larger ones keep a GPU busier and need more of its memory.
        Returns (B, P, out_channels) in the latents' dtype. Any number of points is a good number: they are taken in
        tiles, unless the attention processor has to see them all.
        """
        tile = self._tile(points, tile_points)
        parts: list[Tensor] = []
        for group in points.split(WAVES_OF_TILES * tile, dim=1):
            waves = self.fourier_embedder(group).to(prepared.dtype)
            parts += [self._at_once(part, prepared) for part in waves.split(tile, dim=1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _at_once(self, waves: Tensor, prepared: PreparedLatents) -> Tensor:
        """waves: (B, P, out_dim) of the Fourier embedder. Returns (B, P, out_channels).

        The embeddings have no name here, so that they are gone when the MLP needs room.
        """
        x = self.cross_attn_decoder.query(self.query_proj(waves), prepared.key, prepared.value)
        return self._output(x)

    def _tile(self, points: Tensor, asked: int | None = None) -> int:
        """How many points of each item to take at once. asked: over the whole batch."""
        batch, count = points.shape[:2]
        if type(self.cross_attn_decoder.attn.attention.attn_processor) is not CrossAttentionProcessor:
            return max(count, 1)
        if asked is not None:
            return max(asked // max(batch, 1), 1)
        hidden = self.cross_attn_decoder.mlp.c_fc.out_features
        values = TILE_VALUES if points.is_cpu else DEVICE_TILE_VALUES
        return max(values // (hidden * max(batch, 1)), 64)

    def embed(self, points: Tensor, dtype: torch.dtype) -> Tensor:
        """points: (B, P, 3) → (B, P, width') in ``dtype``."""
        return self.query_proj(self.fourier_embedder(points).to(dtype))

    def decode_embeddings(self, embeddings: Tensor, prepared: PreparedLatents) -> Tensor:
        """embeddings: (B, P, width') from ``embed``. Returns (B, P, out_channels)."""
        return self._output(self.cross_attn_decoder.query(embeddings, prepared.key, prepared.value))

    def _output(self, x: Tensor) -> Tensor:
        return self.output_proj(self.ln_post(x) if self.enable_ln_post else x)

    def forward(
        self, queries: Tensor | None = None, query_embeddings: Tensor | None = None, latents: Tensor | None = None
    ) -> Tensor:
        """queries: (B, P, 3), or query_embeddings: (B, P, width') instead; latents: (B, N, width).

        Returns (B, P, out_channels). Projects the latents anew at each call; loops use ``prepare`` and ``query``.
        """
        if latents is None or (queries is None and query_embeddings is None):
            raise UsageError("the geometry decoder needs latents=, and queries= or query_embeddings=")
        prepared = self.prepare(latents)
        if query_embeddings is None:
            assert queries is not None
            query_embeddings = self.embed(queries, latents.dtype)
        return self.decode_embeddings(query_embeddings, prepared)
