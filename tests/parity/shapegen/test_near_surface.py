"""Near-surface masks and the dense point grid, exactly as recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hy3dgen.shapegen.models.autoencoders.decoding.masks import BAND
from hy3dgen.shapegen.models.autoencoders.volume_decoders import (
    extract_near_surface_volume_fn,
    generate_dense_grid_points,
)
from tests.parity.vectors import files, load


@pytest.mark.parametrize("path", files("shapegen", "near_surface"), ids=lambda p: p.stem)
def test_near_surface(path: Path) -> None:
    vector = load(path)
    inputs, outputs, alpha = vector.inputs, vector.outputs, vector.config["alpha"]
    for name in ("full", "holes"):
        mask = extract_near_surface_volume_fn(inputs[name], 0.0)
        assert mask.dtype == torch.int32 and torch.equal(mask, outputs[f"mask_{name}"])
    assert torch.equal(extract_near_surface_volume_fn(inputs["holes"], alpha), outputs["mask_holes_alpha"])
    band = (outputs["mask_holes"] > 0) | (inputs["holes"].abs() < BAND)
    assert torch.equal(band.to(torch.int32), outputs["or_band_holes"])

    dense = vector.config["dense_grid"]
    points, size, extent = generate_dense_grid_points(
        np.array(dense["bbox_min"]), np.array(dense["bbox_max"]), dense["octree_resolution"], dense["indexing"]
    )
    want = outputs[f"dense_grid_r{dense['octree_resolution']}"]
    assert points.dtype == np.float32 and np.array_equal(points, want.numpy())
    assert size == list(want.shape[:3])
    assert extent == pytest.approx(np.subtract(dense["bbox_max"], dense["bbox_min"]))
