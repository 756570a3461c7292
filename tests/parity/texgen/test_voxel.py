"""Position masks and voxel indices against recorded ones, with and without the overwritten background."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.hunyuanpaint.unet import modules
from hy3dgen.texgen.hunyuanpaint.unet.voxel import without_background
from tests.parity.vectors import files, load

MASK_SHARE = 1e-3  # of entries that may differ, at ties of half precision


def check_mask(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == torch.bool
    assert (found != expected.bool()).double().mean() <= MASK_SHARE


def check_voxels(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == torch.int64
    assert (found - expected).abs().max() <= 1


@pytest.mark.parametrize("path", files("texgen", "voxel"), ids=lambda p: p.stem)
def test_voxel(path: Path) -> None:
    vector = load(path)
    config, out, position = vector.config, vector.outputs, vector.inputs["position"]
    half = position.half()
    cleared = without_background(half)
    torch.testing.assert_close(cleared, out["half_inplace.position_after"], atol=0, rtol=0)
    for case, first, second in (("float", position, position), ("half_inplace", half, cleared)):
        masks = modules.compute_multi_resolution_mask(first, config["mask_grid_resolutions"])
        voxels = modules.compute_multi_resolution_discrete_voxel_indice(
            second, config["voxel_grid_resolutions"], config["voxel_resolutions"]
        )
        for size, mask in masks.items():
            check_mask(mask, out[f"{case}.mask.{size}"])
        for size, voxel in voxels.items():
            check_voxels(voxel["voxel_indices"], out[f"{case}.voxel.{size}"])
            assert voxel["voxel_resolution"] == config[f"voxel_resolution.{size}"]
    assert torch.equal(half, position.half()), "the caller's maps were changed"
    check_mask(modules.compute_voxel_grid_mask(position, **config["single"]), out["mask_single_float"])
    check_voxels(modules.compute_discrete_voxel_indice(position, **config["discrete_single"]), out["discrete_single"])
