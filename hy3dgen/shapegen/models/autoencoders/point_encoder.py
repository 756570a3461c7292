"""Surface points → latents: the encoder side of the ShapeVAE (2.1), with farthest point sampling in plain torch.

The random choices (which points are looked at, where the sampling starts) are a value of their own,
``PointSelection``, so that they can be recorded and repeated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hy3dgen.errors import InputError, UsageError
from hy3dgen.shapegen.models.autoencoders.blocks import FourierEmbedder, ResidualCrossAttentionBlock, Transformer


def fps(
    src: Tensor,
    batch: Tensor | None = None,
    ratio: float | Tensor | None = None,
    random_start: bool = True,
    batch_size: int | None = None,
    ptr: Tensor | list[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Farthest point sampling of one or several clouds, as torch_cluster's.

    src: (n, d) points of all clouds, one cloud after the other; compared in float32. batch: (n,) ascending cloud
    numbers, or ptr: (clouds + 1,) borders; neither means one cloud. ratio: share of each cloud to keep (default 0.5),
    rounded up. random_start: begin at a random point (drawn with ``generator``), else at each cloud's first.
    Returns int64 indices into src in the order of selection, cloud after cloud; ties go to the lowest index.
    """
    borders = _borders(src.shape[0], batch, batch_size, ptr)
    share = torch.as_tensor(0.5 if ratio is None else ratio, dtype=torch.float32, device="cpu")
    chosen = []
    for cloud, (first, last) in enumerate(itertools.pairwise(borders)):
        count = last - first
        if count == 0:
            continue
        own_share = share if share.ndim == 0 else share[cloud]
        kept = int((torch.tensor(float(count)) * own_share).ceil())
        if random_start:
            device = "cpu" if generator is None else generator.device
            start = int(torch.randint(count, (1,), generator=generator, device=device))
        else:
            start = 0
        chosen.append(first + _farthest(src[first:last].float(), min(kept, count), start))
    return torch.cat(chosen) if chosen else torch.empty(0, dtype=torch.int64, device=src.device)


def _borders(total: int, batch: Tensor | None, batch_size: int | None, ptr: Tensor | list[int] | None) -> list[int]:
    if ptr is not None:
        return [int(border) for border in ptr]
    if batch is None:
        return [0, total]
    if batch.numel() != total:
        raise UsageError(f"fps: batch names a cloud for {batch.numel()} points, but there are {total}")
    counts = torch.bincount(batch, minlength=batch_size or 0)
    return [0, *counts.cumsum(0).tolist()]


def _farthest(points: Tensor, kept: int, start: int) -> Tensor:
    """points: (n, d) float32. Returns (kept,) int64, beginning with ``start``; never waits for the device."""
    chosen = torch.empty(kept, dtype=torch.int64, device=points.device)
    nearest = torch.full((points.shape[0],), float("inf"), device=points.device)
    current = torch.full((1,), start, dtype=torch.int64, device=points.device)
    for position in range(kept):
        chosen[position : position + 1] = current
        distances = (points - points.index_select(0, current)).square_().sum(dim=1)
        nearest = torch.minimum(nearest, distances)
        current = nearest.argmax(dim=0, keepdim=True)
    return chosen


@dataclass(frozen=True)
class PointSelection:
    """Which points of a surface the encoder uses.

    data_uniform (n_u,), data_sharp (n_s,): the points that are attended to, the same for the whole batch, counted
    within the uniform and within the sharp points. query_uniform (B, q_u), query_sharp (B, q_s): the points that
    become latents, counted within the data points of their kind. All int64.
    """

    data_uniform: Tensor
    data_sharp: Tensor
    query_uniform: Tensor
    query_sharp: Tensor


class PointCrossAttentionEncoder(nn.Module):
    """Points with features → one latent per query point.

    num_latents·downsample_ratio points are looked at, shared between uniform and sharp ones by pc_size and
    pc_sharpedge_size; each size must be at least its share. point_feats: features beyond the coordinates.
    normal_pe: Fourier-embed the first three features (normals) too.
    """

    def __init__(
        self,
        *,
        num_latents: int,
        downsample_ratio: float,
        pc_size: int,
        pc_sharpedge_size: int,
        fourier_embedder: FourierEmbedder,
        point_feats: int,
        width: int,
        heads: int,
        layers: int,
        normal_pe: bool = False,
        qkv_bias: bool = True,
        use_ln_post: bool = False,
        qk_norm: bool = False,
    ) -> None:
        super().__init__()
        self.num_latents, self.downsample_ratio = num_latents, downsample_ratio
        self.pc_size, self.pc_sharpedge_size = pc_size, pc_sharpedge_size
        self.point_feats, self.normal_pe = point_feats, normal_pe
        self.fourier_embedder = fourier_embedder
        features = point_feats + (fourier_embedder.out_dim - 3 if normal_pe else 0)
        self.input_proj = nn.Linear(fourier_embedder.out_dim + features, width)
        self.cross_attn = ResidualCrossAttentionBlock(width=width, heads=heads, qkv_bias=qkv_bias, qk_norm=qk_norm)
        self.self_attn = (
            Transformer(width=width, layers=layers, heads=heads, qkv_bias=qkv_bias, qk_norm=qk_norm) if layers else None
        )
        # torch's own eps of 1e-5, unlike every other norm here
        self.ln_post = nn.LayerNorm(width) if use_ln_post else None

    def shares(self) -> tuple[tuple[int, float], tuple[int, float]]:
        """(points to look at, queries) of the uniform and of the sharp points; the queries are a fraction at times."""
        queries = int(self.num_latents * self.downsample_ratio / self.downsample_ratio)
        uniform = self.pc_size / (self.pc_size + self.pc_sharpedge_size) * queries
        sharp = queries - uniform
        return (int(uniform * self.downsample_ratio), uniform), (int(sharp * self.downsample_ratio), sharp)

    def select(self, points: Tensor, generator: torch.Generator | None = None) -> PointSelection:
        """Draw a selection for points: (B, pc_size + pc_sharpedge_size, 3), uniform ones first.

        Raises InputError when the number of points differs, UsageError when the sizes cannot give enough points.
        """
        self._check(points)
        (count_u, queries_u), (count_s, queries_s) = self.shares()
        if count_u > self.pc_size or count_s > self.pc_sharpedge_size:
            raise UsageError(
                f"{self.num_latents} latents at downsample_ratio {self.downsample_ratio} look at {count_u} uniform "
                f"and {count_s} sharp points, but pc_size is {self.pc_size} and pc_sharpedge_size "
                f"{self.pc_sharpedge_size}; pass sizes of at least {count_u} and {count_s} to the VAE"
            )
        uniform, sharp = points.split([self.pc_size, self.pc_sharpedge_size], dim=1)
        data_u, query_u = _draw(uniform, count_u, queries_u, generator)
        data_s, query_s = _draw(sharp, count_s, queries_s, generator)
        return PointSelection(data_u, data_s, query_u, query_s)

    def embed(self, points: Tensor, features: Tensor) -> Tensor:
        """points: (B, n, 3), features: (B, n, point_feats) → (B, n, width)."""
        if self.normal_pe:
            features = torch.cat([self.fourier_embedder(features[..., :3]), features[..., 3:]], dim=-1)
        return self.input_proj(torch.cat([self.fourier_embedder(points), features], dim=-1))

    def forward(
        self,
        pc: Tensor,
        feats: Tensor,
        selection: PointSelection | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """pc: (B, pc_size + pc_sharpedge_size, 3), feats: (B, the same, point_feats); uniform points first.

        selection: points to use; None draws them with ``generator``. Returns (latents, clouds): latents
        (B, queries, width); clouds, each (B, n, 3): queries, data, uniform queries, uniform data, sharp queries,
        sharp data (one zero point where there is none).
        """
        if feats.shape[-1] != self.point_feats:
            raise InputError(f"the encoder expects {self.point_feats} features a point, got {feats.shape[-1]}")
        selection = self.select(pc, generator) if selection is None else selection
        self._check(pc)
        pieces = torch.cat([pc, feats], dim=-1).split([self.pc_size, self.pc_sharpedge_size], dim=1)
        data = [pieces[0][:, selection.data_uniform], pieces[1][:, selection.data_sharp]]
        query = [_take(data[0], selection.query_uniform), _take(data[1], selection.query_sharp)]
        all_data, all_query = torch.cat(data, dim=1), torch.cat(query, dim=1)

        latents = self.cross_attn(self.embed(*_parts(all_query)), self.embed(*_parts(all_data)))
        if self.self_attn is not None:
            latents = self.self_attn(latents)
        if self.ln_post is not None:
            latents = self.ln_post(latents)
        clouds = [all_query, all_data, query[0], data[0], query[1], data[1]]
        placeholder = pc.new_zeros((pc.shape[0], 1, 3))
        return latents, [cloud[..., :3] if cloud.shape[1] else placeholder for cloud in clouds]

    def _check(self, points: Tensor) -> None:
        expected = self.pc_size + self.pc_sharpedge_size
        if points.ndim != 3 or points.shape[1] != expected:
            raise InputError(
                f"the encoder expects (batch, {expected}, …) surface points, {self.pc_size} uniform ones followed by "
                f"{self.pc_sharpedge_size} sharp ones; got {tuple(points.shape)}"
            )


def _draw(points: Tensor, count: int, queries: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """points: (B, n, 3). Returns (data (count,), query (B, ceil(queries))): random points, and the farthest of them."""
    batch = points.shape[0]
    if count == 0:
        nothing = torch.empty(0, dtype=torch.int64, device=points.device)
        return nothing, nothing.expand(batch, 0)
    device = "cpu" if generator is None else generator.device
    data = torch.randperm(points.shape[1], generator=generator, device=device)[:count].to(points.device)
    chosen = points[:, data]
    borders = [item * count for item in range(batch + 1)]
    flat = fps(chosen.flatten(0, 1), ptr=borders, ratio=queries / count, generator=generator)
    return data, flat.view(batch, -1) - torch.tensor(borders[:-1], device=flat.device).unsqueeze(1)


def _take(points: Tensor, indices: Tensor) -> Tensor:
    """points: (B, n, c), indices: (B, m) → (B, m, c)."""
    return torch.gather(points, 1, indices.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def _parts(cloud: Tensor) -> tuple[Tensor, Tensor]:
    return cloud[..., :3], cloud[..., 3:]
