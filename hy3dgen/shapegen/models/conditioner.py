"""Pictures → the tokens that the denoisers look at.

Attribute names are the keys of the published checkpoints. Pictures arrive as tensors; cutting out and framing the
object is ``shapegen.preprocessors``' business.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hy3dgen.errors import InputError, UsageError
from hy3dgen.shapegen.models.clip_vision import CLIPVision, CLIPVisionConfig
from hy3dgen.shapegen.models.dinov2 import Dinov2, Dinov2Config
from hy3dgen.shapegen.models.sincos import get_1d_sincos_pos_embed_from_grid

logger = logging.getLogger(__name__)

__all__ = [
    "get_1d_sincos_pos_embed_from_grid",
    "ImageEncoder",
    "CLIPImageEncoder",
    "DinoImageEncoder",
    "DinoImageEncoderMV",
    "build_image_encoder",
    "DualImageEncoder",
    "SingleImageEncoder",
]

PATCH = 14  # counts tokens for every backbone, whatever its own patch size


def resize_shorter_side(image: Tensor, size_px: int) -> Tensor:
    """image: (B, 3, h, w) → shorter side size_px, the longer in proportion (rounded down); bilinear, antialiased.

    Computed in float32 for shorter dtypes.
    """
    height, width = image.shape[-2:]
    short, long = min(height, width), max(height, width)
    other = size_px * long // short
    target = (size_px, other) if height <= width else (other, size_px)
    if target == (height, width):
        return image
    wide = image if image.dtype in (torch.float32, torch.float64) else image.float()
    return functional.interpolate(wide, size=target, mode="bilinear", align_corners=False, antialias=True).to(
        image.dtype
    )


def crop_centre(image: Tensor, size_px: int) -> Tensor:
    """image: (B, 3, h, w), no side under size_px → (B, 3, size_px, size_px). Half pixels round to even."""
    height, width = image.shape[-2:]
    top, left = round((height - size_px) / 2), round((width - size_px) / 2)
    return image[..., top : top + size_px, left : left + size_px]


class ImageEncoder(nn.Module, ABC):
    """A frozen backbone with its picture transform.

    version: a hub name, loaded through transformers; used only without ``config``. config: the fields of a
    transformers config; the weights are then expected from a checkpoint. image_size: pixels the picture is resized
    and cropped to. Raises UsageError when neither version nor config is given.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(
        self,
        version: str | None = None,
        config: Mapping[str, Any] | None = None,
        use_cls_token: bool = True,
        image_size: int = 224,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if config is None and version is None:
            raise UsageError(f"{type(self).__name__} needs config= (fields of the backbone) or version= (a hub name)")
        if kwargs:
            logger.warning("%s does not know %s; ignored", type(self).__name__, ", ".join(sorted(kwargs)))
        self.model = self.from_hub(str(version)) if config is None else self.build(config)
        self.model.eval().requires_grad_(False)
        self.use_cls_token, self.image_size = use_cls_token, image_size
        self.size = image_size // PATCH
        self.num_patches = self.size**2 + (1 if use_cls_token else 0)

    @staticmethod
    @abstractmethod
    def build(config: Mapping[str, Any]) -> nn.Module:
        """The backbone of a transformers config, with fresh weights."""

    @staticmethod
    @abstractmethod
    def from_hub(version: str) -> nn.Module:
        """The backbone that the hub has under this name, with its weights."""

    @property
    def hidden_size(self) -> int:
        """Width of the tokens."""
        config: Any = self.model.config
        return int(config.hidden_size)

    def transform(self, image: Tensor) -> Tensor:
        """image: (B, 3, h, w) in [0, 1] → (B, 3, image_size, image_size), resized, cropped, normalised."""
        image = crop_centre(resize_shorter_side(image, self.image_size), self.image_size)
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (image - mean) / std

    def encode(self, image: Tensor, value_range: Sequence[float] | None) -> Tensor:
        """image: (B, 3, h, w) with values in value_range (None: in [0, 1]). Returns (B, num_patches, hidden_size)."""
        if image.ndim != 4 or image.shape[1] != 3:
            raise InputError(f"the image encoder expects (batch, 3, height, width), got {tuple(image.shape)}")
        if value_range is not None:
            low, high = value_range
            image = (image - low) / (high - low)
        like = next(self.model.parameters())
        tokens = self.model(self.transform(image.to(device=like.device, dtype=like.dtype)))
        tokens = tokens if isinstance(tokens, Tensor) else tokens.last_hidden_state
        return tokens if self.use_cls_token else tokens[:, 1:]

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        value_range: Sequence[float] | None = (-1, 1),
        **kwargs: Any,
    ) -> Tensor:
        """image: (B, 3, h, w). mask and further keywords are for other encoders. See ``encode``."""
        return self.encode(image, value_range)

    def unconditional_embedding(self, batch_size: int, **kwargs: Any) -> Tensor:
        """What stands for 'no picture': zeros (batch_size, num_patches, hidden_size) in the backbone's dtype."""
        like = next(self.model.parameters())
        return torch.zeros(batch_size, self.num_patches, self.hidden_size, device=like.device, dtype=like.dtype)


class CLIPImageEncoder(ImageEncoder):
    """CLIP's vision tower."""

    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)

    @staticmethod
    def build(config: Mapping[str, Any]) -> nn.Module:
        return CLIPVision(CLIPVisionConfig.from_mapping(config))

    @staticmethod
    def from_hub(version: str) -> nn.Module:
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection.from_pretrained(version)


class DinoImageEncoder(ImageEncoder):
    """DINOv2."""

    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)

    @staticmethod
    def build(config: Mapping[str, Any]) -> nn.Module:
        return Dinov2(Dinov2Config.from_mapping(config))

    @staticmethod
    def from_hub(version: str) -> nn.Module:
        from transformers import Dinov2Model

        return Dinov2Model.from_pretrained(version)


def view_marks(hidden_size: int, view_num: int) -> Tensor:
    """(view_num, hidden_size) float32: what is added to every token of a view. That of view 0 is not zero."""
    table = get_1d_sincos_pos_embed_from_grid(hidden_size, np.arange(view_num))
    return torch.from_numpy(table.astype(np.float32))


class DinoImageEncoderMV(DinoImageEncoder):
    """DINOv2 on several views of one object; every view's tokens carry the view's number.

    view_num: how many views the table knows (0 front, 1 left, 2 back, 3 right in the published models).
    """

    def __init__(
        self,
        version: str | None = None,
        config: Mapping[str, Any] | None = None,
        use_cls_token: bool = True,
        image_size: int = 224,
        view_num: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(version, config, use_cls_token, image_size, **kwargs)
        self.view_num = view_num
        # Not in the checkpoints: a value, not a buffer, so that a module built on the meta device lacks nothing.
        self._views = view_marks(self.hidden_size, view_num)

    @property
    def view_embed(self) -> Tensor:
        """(1, view_num, num_patches, hidden_size) float32: what is added to the tokens of each view."""
        return self._views[None, :, None].expand(1, -1, self.num_patches, -1)

    def forward(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        value_range: Sequence[float] | None = (-1, 1),
        view_idxs: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """image: (B, V, 3, h, w); view_idxs: B sequences of V view numbers, None for 0…V-1 each.

        Returns (B, V·num_patches, hidden_size), views in the order of the input. Raises InputError for a picture
        without a view axis and UsageError for view numbers that do not fit.
        """
        if image.ndim != 5:
            raise InputError(f"the multi-view encoder expects (batch, views, 3, h, w), got {tuple(image.shape)}")
        batch, views = image.shape[:2]
        numbers = self._numbers(view_idxs, batch, views)
        tokens = self.encode(image.flatten(0, 1), value_range).unflatten(0, (batch, views))
        marks = self._views[numbers].to(device=tokens.device, dtype=tokens.dtype)
        return (tokens + marks.unsqueeze(2)).flatten(1, 2)

    def unconditional_embedding(
        self, batch_size: int, view_idxs: Sequence[Sequence[int]] | None = None, **kwargs: Any
    ) -> Tensor:
        """Zeros (batch_size, V·num_patches, hidden_size) with V the length of the first of view_idxs."""
        if not view_idxs:
            raise UsageError("the multi-view encoder needs view_idxs= to know how many views 'no picture' stands for")
        return super().unconditional_embedding(batch_size).repeat(1, len(view_idxs[0]), 1)

    def _numbers(self, view_idxs: Sequence[Sequence[int]] | None, batch: int, views: int) -> Tensor:
        given = [range(views)] * batch if view_idxs is None else view_idxs
        numbers = [[int(number) for number in item] for item in given]
        fits = len(numbers) == batch and all(len(item) == views for item in numbers)
        if not fits or any(not 0 <= number < self.view_num for item in numbers for number in item):
            raise UsageError(
                f"view_idxs {numbers} do not fit: expected {batch} lists of {views} view numbers from 0 to "
                f"{self.view_num - 1}"
            )
        return torch.tensor(numbers, device="cpu")


IMAGE_ENCODERS: dict[str, type[ImageEncoder]] = {
    "CLIPImageEncoder": CLIPImageEncoder,
    "DinoImageEncoder": DinoImageEncoder,
    "DinoImageEncoderMV": DinoImageEncoderMV,
}


def build_image_encoder(config: Mapping[str, Any]) -> ImageEncoder:
    """config: 'type' (a name of IMAGE_ENCODERS) and 'kwargs' for it. Raises UsageError for an unknown type."""
    name = config.get("type")
    if name not in IMAGE_ENCODERS:
        raise UsageError(f"unknown image encoder type '{name}'; use one of {', '.join(IMAGE_ENCODERS)}")
    return IMAGE_ENCODERS[name](**config.get("kwargs", {}))


class SingleImageEncoder(nn.Module):
    """One encoder: {'main': tokens}."""

    def __init__(self, main_image_encoder: Mapping[str, Any]) -> None:
        super().__init__()
        self.main_image_encoder = build_image_encoder(main_image_encoder)

    def forward(self, image: Tensor, mask: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Keywords go to the encoder."""
        return {"main": self.main_image_encoder(image, mask=mask, **kwargs)}

    def unconditional_embedding(self, batch_size: int, **kwargs: Any) -> dict[str, Tensor]:
        """Zeros in the shapes of ``forward``."""
        return {"main": self.main_image_encoder.unconditional_embedding(batch_size, **kwargs)}


class DualImageEncoder(nn.Module):
    """Two encoders: {'main': tokens, 'additional': tokens}."""

    def __init__(self, main_image_encoder: Mapping[str, Any], additional_image_encoder: Mapping[str, Any]) -> None:
        super().__init__()
        self.main_image_encoder = build_image_encoder(main_image_encoder)
        self.additional_image_encoder = build_image_encoder(additional_image_encoder)

    def forward(self, image: Tensor, mask: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Keywords go to both encoders."""
        return {
            "main": self.main_image_encoder(image, mask=mask, **kwargs),
            "additional": self.additional_image_encoder(image, mask=mask, **kwargs),
        }

    def unconditional_embedding(self, batch_size: int, **kwargs: Any) -> dict[str, Tensor]:
        """Zeros in the shapes of ``forward``."""
        return {
            "main": self.main_image_encoder.unconditional_embedding(batch_size, **kwargs),
            "additional": self.additional_image_encoder.unconditional_embedding(batch_size, **kwargs),
        }
