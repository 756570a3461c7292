"""UNet2p5DConditionModel: one UNet denoises all views together, a second one reads the reference pictures.

Knows nothing of schedulers, pictures or devices. Attribute names are keys of the official state dictionary.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from hy3dgen.errors import UsageError
from hy3dgen.texgen.attention import use_attend
from hy3dgen.texgen.hunyuanpaint.unet.blocks import Basic2p5DTransformerBlock, LastLayerReached
from hy3dgen.texgen.hunyuanpaint.unet.conditions import Conditions
from hy3dgen.texgen.hunyuanpaint.unet.voxel import (
    compute_discrete_voxel_indice,
    compute_multi_resolution_discrete_voxel_indice,
    compute_multi_resolution_mask,
    compute_voxel_grid_mask,
)

TEXT_TOKENS = 77
REFERENCE_CAMERAS = 5
VIEW_CAMERAS = 12 * 3 + 4 * 2  # three rings of twelve, two poles of four


class UNet2p5DConditionModel(nn.Module):
    """``unet`` (denoises the views) and ``unet_dual`` (a copy made before any change; reads the references).

    Widths are the wrapped network's: text width from its ``cross_attention_dim``, camera rows as wide as its time
    embedding. Attributes that are not found here are looked up in ``unet`` (``config``, ``dtype``, …).
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.use_ma = self.use_ra = self.use_camera_embedding = self.use_dual_stream = True
        self.is_turbo = False
        self.unet: Any = unet  # diffusers declares few of its attributes
        self.unet_dual: Any = copy.deepcopy(unet)
        self.init_attention(self.unet_dual)
        self.init_attention(self.unet, use_ma=self.use_ma, use_ra=self.use_ra, is_turbo=self.is_turbo)
        self.init_condition()
        self.init_camera_embedding()
        *_, last = wrapped_blocks(self.unet_dual)
        last.is_last = True
        use_attend(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("unet"), name)

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> UNet2p5DConditionModel:
        """Load a checkpoint's ``unet`` folder (config.json and .safetensors or .bin) in ``torch_dtype`` (float32).

        Raises WeightsNotFoundError or WeightsDamagedError with the file's name.
        """
        from hy3dgen.texgen.loading import load_paint_unet

        return load_paint_unet(Path(pretrained_model_name_or_path), dtype=kwargs.pop("torch_dtype", torch.float32))

    def init_condition(self) -> None:
        """Let ``unet`` take latent, normal and position channels, and give it the two learned texts."""
        old = self.unet.conv_in
        self.unet.conv_in = nn.Conv2d(
            old.in_channels * 3, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups,
            bias=old.bias is not None, dtype=old.weight.dtype, device=old.weight.device,
        )  # fmt: skip
        width = self.unet.config.cross_attention_dim
        if not isinstance(width, int):
            raise UsageError(f"the paint UNet needs one text width, its config has cross_attention_dim={width}")
        for name in ("learned_text_clip_gen", "learned_text_clip_ref"):
            text = torch.randn(1, TEXT_TOKENS, width, dtype=old.weight.dtype, device=old.weight.device)
            self.unet.register_parameter(name, nn.Parameter(text))

    def init_camera_embedding(self) -> None:
        """Give ``unet`` one row a camera, added to its time embedding."""
        self.max_num_ref_image, self.max_num_gen_image = REFERENCE_CAMERAS, VIEW_CAMERAS
        weight = self.unet.time_embedding.linear_2.weight
        rows = REFERENCE_CAMERAS + VIEW_CAMERAS
        self.unet.class_embedding = nn.Embedding(rows, weight.shape[0], dtype=weight.dtype, device=weight.device)

    def init_attention(
        self, unet: UNet2DConditionModel, use_ma: bool = False, use_ra: bool = False, is_turbo: bool = False
    ) -> None:
        """Wrap every transformer block of ``unet`` in place."""
        for name, blocks, k in _block_places(unet):
            blocks[k] = Basic2p5DTransformerBlock(blocks[k], name, use_ma=use_ma, use_ra=use_ra, is_turbo=is_turbo)

    def encode_reference(self, ref_latents: Tensor, *, text: Tensor | None = None) -> dict[str, Tensor]:
        """Features of the reference pictures: {layer name: (B, R·L, C)}.

        ref_latents: (B, R, 4, h, w), clean. text: (1, T, D), ``learned_text_clip_ref`` when not given. They are the
        same at every denoising step: call this once. The stream ends with its last layer's features; the layers
        behind it are not run.
        """
        rows, pictures = ref_latents.shape[:2]
        text = self.unet.learned_text_clip_ref if text is None else text
        features: dict[str, Tensor] = {}
        asked = {
            "mode": "w",
            "num_in_batch": pictures,
            "condition_embed_dict": features,
            "conditions": Conditions(rows, text=text.expand(rows, -1, -1)),
        }
        try:
            self.unet_dual(ref_latents.flatten(0, 1), 0, encoder_hidden_states=None, cross_attention_kwargs=asked)
        except LastLayerReached:
            return features
        raise RuntimeError("the reference stream ran past its last layer")

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | None,
        *args: Any,
        down_intrablock_additional_residuals: list[Tensor] | None = None,
        down_block_res_samples: list[Tensor] | None = None,
        mid_block_res_sample: Tensor | None = None,
        **cached_condition: Any,
    ) -> tuple[Tensor]:
        """One denoising step of all views: ((B·N), 4, h, w) in a tuple.

        sample: (B, N, 4, h, h). encoder_hidden_states: (B, T, D).
        cached_condition: ``camera_info_gen`` (B, N) int in [0, 43]; ``normal_imgs``, ``position_imgs``
        (B, N, 4, h, h); and the reference as ``ref_latents`` (B, R, 4, h, h), or as ``condition_embed_dict`` (what
        encode_reference gave), or, with the text in it, as ``conditions`` kept from step to step; ``ref_scale``
        (number or (B,)), ``mva_scale``. Other names that diffusers' loops pass are ignored.
        Raises UsageError for views that are not square and for a missing camera or reference.
        """
        rows, views, _, height, width = sample.shape
        if height != width:
            raise UsageError(f"the paint network needs square views, got latents of {height} x {width}")
        if "camera_info_gen" not in cached_condition:
            raise UsageError("the paint network needs camera_info_gen: one camera index a view")
        conditions = cached_condition.get("conditions")
        if conditions is None:
            conditions = self._conditions(rows, encoder_hidden_states, cached_condition)
        channels = [sample]
        channels += [
            cached_condition[k] for k in ("normal_imgs", "position_imgs") if cached_condition.get(k) is not None
        ]
        asked = {
            "mode": "r",
            "num_in_batch": views,
            "conditions": conditions,
            "mva_scale": cached_condition.get("mva_scale", 1.0),
        }
        return self.unet(
            torch.cat(channels, dim=2).flatten(0, 1),
            timestep,
            encoder_hidden_states=None,
            class_labels=(cached_condition["camera_info_gen"] + self.max_num_ref_image).flatten(),
            cross_attention_kwargs=asked,
            down_intrablock_additional_residuals=_as(down_intrablock_additional_residuals, sample),
            down_block_additional_residuals=_as(down_block_res_samples, sample),
            mid_block_additional_residual=None
            if mid_block_res_sample is None
            else mid_block_res_sample.to(sample.dtype),
            return_dict=False,
        )

    def _conditions(self, rows: int, text: Tensor | None, given: dict[str, Any]) -> Conditions:
        """Conditions for one call, when the caller keeps none."""
        features = given.get("condition_embed_dict")
        if features is None:
            if given.get("ref_latents") is None:
                raise UsageError("the paint network needs ref_latents or condition_embed_dict, the reference pictures")
            features = self.encode_reference(given["ref_latents"])
        return Conditions(rows, text=text, features=dict(features), ref_scale=given.get("ref_scale", 1.0))


def wrapped_blocks(unet: Any) -> Iterator[Basic2p5DTransformerBlock]:
    """The wrapped blocks of one UNet in the order in which they run."""
    for _, blocks, k in _block_places(unet):
        yield blocks[k]


@contextlib.contextmanager
def feed_forward_by_view(unet: Any) -> Iterator[None]:
    """Inside, one view at a time goes through the feed-forward layers of ``unet``: tokens do not meet there."""
    blocks = [block.transformer for block in wrapped_blocks(unet)]
    before = [(block._chunk_size, block._chunk_dim) for block in blocks]
    try:
        for block in blocks:
            block.set_chunk_feed_forward(1, 0)
        yield
    finally:
        for block, (size, dim) in zip(blocks, before, strict=True):
            block.set_chunk_feed_forward(size, dim)


def _block_places(unet: Any) -> Iterator[tuple[str, Any, int]]:
    """(layer name, the list a transformer block is in, its place there), in the order in which they run."""
    stacks = [(f"down_{i}", block) for i, block in enumerate(unet.down_blocks)]
    stacks += [("mid", unet.mid_block)] if unet.mid_block is not None else []
    stacks += [(f"up_{i}", block) for i, block in enumerate(unet.up_blocks)]
    for name, block in stacks:
        if not getattr(block, "has_cross_attention", False):
            continue
        for j, attention in enumerate(block.attentions):
            for k in range(len(attention.transformer_blocks)):
                yield f"{name}_{j}_{k}", attention.transformer_blocks, k


def _as(residuals: list[Tensor] | None, like: Tensor) -> list[Tensor] | None:
    return None if residuals is None else [r.to(like.dtype) for r in residuals]


__all__ = [
    "UNet2p5DConditionModel",
    "Basic2p5DTransformerBlock",
    "Conditions",
    "compute_voxel_grid_mask",
    "compute_multi_resolution_mask",
    "compute_discrete_voxel_indice",
    "compute_multi_resolution_discrete_voxel_indice",
    "feed_forward_by_view",
    "wrapped_blocks",
]
