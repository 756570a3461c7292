"""The hierarchical decoder against the recorded grids of its intended algorithm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.parity.shapegen.test_volume_vanilla import decode
from tests.parity.vectors import files, load


def assert_sparse_grids_close(
    got: torch.Tensor, want: torch.Tensor, *, pattern: float, atol: float, outliers: float
) -> None:
    """pattern: share of cells whose NaN may differ; outliers: share of finite cells beyond the tolerance."""
    assert got.shape == want.shape
    differ = got.isnan() != want.isnan()
    assert differ.float().mean() <= pattern, f"{int(differ.sum())} cells are NaN in one grid only"
    both = ~got.isnan() & ~want.isnan()
    assert both.any()
    close = torch.isclose(got[both], want[both], rtol=1e-4, atol=atol)
    assert (~close).float().mean() <= outliers, f"largest difference {(got[both] - want[both]).abs().max()}"


@pytest.mark.parametrize("path", files("shapegen", "volume_hierarchical"), ids=lambda p: p.stem)
def test_volume_hierarchical(path: Path) -> None:
    vector = load(path)
    for name in (n for n in vector.config if n.startswith("call")):
        suffix = name.removeprefix("call") or "_intended"
        grid = decode(vector, vector.config[name])
        want = vector.outputs["grid_logits" + suffix]
        assert_sparse_grids_close(grid, want, pattern=1e-3, atol=1e-4, outliers=0)


@pytest.mark.parametrize("path", files("shapegen", "volume_hierarchical"), ids=lambda p: p.stem)
def test_refined_points_are_not_all_one_place_e3(path: Path) -> None:
    """E3: the reference evaluated every refined point at (-1, -1, -1), so all finite cells were equal."""
    vector = load(path)
    grid = decode(vector, vector.config["call"])
    finite = grid[~grid.isnan()]
    assert finite.std() > 0.1
    assert not torch.allclose(finite, vector.outputs["grid_logits_reference"][~grid.isnan()], atol=1e-2)
