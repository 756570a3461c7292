"""Extraction away from recorded meshes: the exact mapping, bands, and what happens without a surface."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types

import numpy as np
import pytest
import torch

from hy3dgen.errors import MissingExtraError, UsageError
from hy3dgen.shapegen.models.autoencoders.surface_extractors import (
    DMCSurfaceExtractor,
    MCSurfaceExtractor,
    SurfaceExtractors,
)


def ball(resolution: int, radius: float = 0.6, half: float = 1.0) -> torch.Tensor:
    axis = torch.linspace(-half, half, resolution + 1)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return radius - (x * x + y * y + z * z).sqrt()


def test_names() -> None:
    assert {"mc": MCSurfaceExtractor, "dmc": DMCSurfaceExtractor} == SurfaceExtractors


def test_exact_mapping_puts_the_ball_where_it_is_e4() -> None:
    """E4: the published mapping divides by R + 1 and shifts towards the minimum; exact=True does not."""
    grid = ball(24)[None]
    options = {"bounds": 1.0, "octree_resolution": 24}
    (exact,) = MCSurfaceExtractor(exact=True)(grid, **options)
    (published,) = MCSurfaceExtractor()(grid, **options)
    assert exact is not None and published is not None
    assert np.linalg.norm(exact.mesh_v, axis=1) == pytest.approx(0.6, abs=5e-3)
    np.testing.assert_allclose((exact.mesh_v + 1) * 24 / 25, published.mesh_v + 1, atol=1e-6)


def test_unevaluated_points_leave_the_mesh_as_it_is_e7() -> None:
    """E7: a NaN beside an inside point made faces with NaN vertices, doubling the mesh."""
    grid = ball(20)
    band = torch.where(grid.abs() < 0.25, grid, torch.nan)
    options = {"bounds": 1.0, "octree_resolution": 20}
    (whole,), (sparse,) = MCSurfaceExtractor()(grid[None], **options), MCSurfaceExtractor()(band[None], **options)
    assert whole is not None and sparse is not None
    assert np.array_equal(whole.mesh_v, sparse.mesh_v) and np.array_equal(whole.mesh_f, sparse.mesh_f)


@pytest.mark.parametrize("fill", [-1.0, 1.0, float("nan")])
def test_no_surface_is_none_with_a_warning_c2(fill: float, caplog: pytest.LogCaptureFixture) -> None:
    """C2: the reference printed a traceback instead."""
    grids = torch.stack([torch.full((6, 6, 6), fill), ball(5)])
    with caplog.at_level(logging.WARNING):
        empty, found = MCSurfaceExtractor()(grids, bounds=1.0, octree_resolution=5)
    assert empty is None and found is not None
    assert "item 0 has no surface" in caplog.text


def test_level_outside_the_values_is_none() -> None:
    assert MCSurfaceExtractor()(ball(5)[None], bounds=1.0, octree_resolution=5, mc_level=3.0) == [None]


def test_only_a_band_of_one_sign_is_none() -> None:
    """All crossings run into points that were not evaluated."""
    grid = torch.full((6, 6, 6), float("nan"))
    grid[2:4, 2:4, 2:4] = 1.0
    grid[0, 0, 0] = -1.0
    assert MCSurfaceExtractor()(grid[None], bounds=1.0, octree_resolution=5) == [None]


def test_mistakes_propagate_c2() -> None:
    """C2: every exception became None; a wrong call must say so."""
    with pytest.raises(UsageError, match="octree_resolution"):
        MCSurfaceExtractor()(ball(5)[None], bounds=1.0)
    with pytest.raises(UsageError, match="bounds"):
        MCSurfaceExtractor()(ball(5)[None], bounds=[1, 2, 3], octree_resolution=5)


@pytest.mark.skipif(importlib.util.find_spec("diso") is not None, reason="diso is installed")
def test_dmc_without_its_package_says_so_c4() -> None:
    """C4: any failure was reported as 'please install', then became None."""
    with pytest.raises(MissingExtraError, match="pip install diso"):
        DMCSurfaceExtractor()(ball(5)[None])


def test_dmc_keeps_place_scale_and_level_e6(monkeypatch: pytest.MonkeyPatch) -> None:
    """E6: DMC meshes were shrunk to unit size, recentred, and ignored the level. With a stand-in for the package."""
    seen: list[torch.Tensor] = []

    class DiffDMC:
        def __init__(self, dtype: torch.dtype) -> None: ...

        def to(self, device: torch.device) -> DiffDMC:
            return self

        def __call__(self, sdf: torch.Tensor, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(sdf)
            corners = torch.tensor([[0.5, 0.5, 0.5], [0.75, 0.5, 0.5], [0.5, 0.75, 0.5], [0.05, 0.05, 0.05]])
            return corners, torch.tensor([[0, 1, 2], [0, 1, 3]], dtype=torch.int32)

    module = types.ModuleType("diso")
    module.DiffDMC = DiffDMC  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "diso", module)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    grid = ball(10)
    grid[0, 0, 0] = torch.nan  # the last vertex lies in a cell that was not evaluated
    (output,) = DMCSurfaceExtractor()(grid[None], bounds=[0, 0, 0, 2, 4, 8], mc_level=0.1)
    assert output is not None
    np.testing.assert_allclose(output.mesh_v, [[1, 2, 4], [1.5, 2, 4], [1, 3, 4]], atol=1e-6)
    assert output.mesh_f.tolist() == [[2, 1, 0]]
    assert seen[0][5, 5, 5] == pytest.approx(-(0.6 - 0.1)) and seen[0].isfinite().all()
