"""Memory switches that the delight and the paint stage share. The stages apply them; here is only what they mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from hy3dgen.errors import UsageError
from hy3dgen.runtime.attention import ready_kernels, use_backend
from hy3dgen.runtime.device import MPS
from hy3dgen.runtime.stages import StageRecord
from hy3dgen.texgen.strips import drop_strips, use_strips

SMALLEST_TILE_PX = 64


def set_tile_size(vae: Any, size_px: int) -> None:
    """Let a VAE work in square tiles of ``size_px`` pixels (lossy: tiles are blended where they overlap).

    diffusers' own threshold is the size that the VAE was trained at, which a 512 px view never exceeds.
    Raises UsageError for a size that is no multiple of the VAE's factor, or too small to blend.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if size_px < SMALLEST_TILE_PX or size_px % (4 * factor):
        raise UsageError(
            f"VAE tiles of {size_px} px are not possible; use a multiple of {4 * factor}, {SMALLEST_TILE_PX} or more"
        )
    vae.enable_tiling()
    vae.tile_sample_min_size = size_px
    vae.tile_latent_min_size = size_px // factor


def attention_backend(slicing: bool | None, device: torch.device, record: StageRecord) -> str | None:
    """The back end that attention slicing asks for, None to leave the choice as it is; says why in the record.

    slicing: True forces it, False forbids it, None applies it where no memory-efficient kernel exists.
    """
    if slicing is None:
        apply = device.type == MPS
        why = (
            "this device has no memory-efficient attention kernel"
            if apply
            else "the attention kernel here never holds the score matrix; slicing would raise the peak and take longer"
        )
    else:
        apply, why = slicing, "asked for"
    record.decide("attention slicing", apply, why)
    return "sliced" if apply else None


@contextlib.contextmanager
def attention_of_unets(slicing: bool | None, device: torch.device, record: StageRecord) -> Iterator[None]:
    """What a stage of UNets does all its attention with; slicing and record as for ``attention_backend``."""
    with use_backend(attention_backend(slicing, device, record)), ready_kernels():
        yield


def note_vae_switches(slicing: bool, tile_px: int | None, record: StageRecord) -> None:
    """Say in the record which of the two VAE switches are on."""
    record.decide("VAE slicing", slicing, "one picture at a time" if slicing else "switched off")
    why = f"{tile_px} px tiles, lossy" if tile_px else "lossy; only when asked for"
    record.decide("VAE tiling", bool(tile_px), why)


def apply_strips(vae: Any, wanted: bool, record: StageRecord) -> None:
    """Put a VAE into strips (exact) or out of them, and say so. A VAE that cannot run in strips runs without."""
    drop_strips(vae)
    if not wanted:
        record.decide("VAE strips", False, "whole pictures are faster, and there is room for them")
        return
    try:
        use_strips(vae)
    except UsageError as error:
        record.decide("VAE strips", False, str(error))
    else:
        record.decide("VAE strips", True, "two large maps at a time; exact")


def dtypes_to_try(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """The dtypes to try in turn when a result is NaN or black."""
    return (dtype,) if dtype == torch.float32 else (dtype, torch.float32)
