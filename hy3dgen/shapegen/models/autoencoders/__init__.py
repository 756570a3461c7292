"""Networks between latents and meshes. The names below are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "CrossAttentionDecoder": "attention_blocks",
    "CrossAttentionProcessor": "attention_processors",
    "FlashVDMCrossAttentionProcessor": "attention_processors",
    "FlashVDMTopMCrossAttentionProcessor": "attention_processors",
    "ShapeVAE": "model",
    "VectsetVAE": "model",
    "SurfaceExtractors": "surface_extractors",
    "MCSurfaceExtractor": "surface_extractors",
    "DMCSurfaceExtractor": "surface_extractors",
    "Latent2MeshOutput": "surface_extractors",
    "HierarchicalVolumeDecoding": "volume_decoders",
    "FlashVDMVolumeDecoding": "volume_decoders",
    "VanillaVolumeDecoder": "volume_decoders",
}

__all__ = [*_HOMES]  # noqa: PLE0604 - strings, all of them


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
