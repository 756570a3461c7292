"""Splatting, merging and vertex inpainting beyond what the recorded numbers cover."""

import numpy as np
import pytest
import torch

from hy3dgen.baking.blend import Merge
from hy3dgen.baking.inpaint import fill_picture, spread_over_vertices
from hy3dgen.baking.splat import back_project, facing, reliable, splat, splat_mean
from hy3dgen.errors import MeshError, UsageError
from hy3dgen.rendering.cameras import View
from hy3dgen.rendering.maps import Drawing, depth_map, draw
from hy3dgen.rendering.rasterizers import interpolate
from hy3dgen.rendering.surface import prepare
from tests.baking.shapes import sphere


def test_splat_keeps_the_mass_and_ignores_nan() -> None:
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.rand(300, 2, generator=generator)
    values = torch.rand(300, 3, generator=generator)
    sums, weights = splat(7, 11, coordinates, values)
    torch.testing.assert_close(sums.sum((0, 1)), values.sum(0), rtol=1e-4, atol=1e-4)
    assert float(weights.sum()) == pytest.approx(300, rel=1e-5)
    coordinates[0] = float("nan")
    assert torch.isfinite(splat(7, 11, coordinates, values)[0]).all()
    constant = splat_mean(7, 11, coordinates, torch.full((300, 1), 0.25))
    assert torch.allclose(constant[constant > 0], torch.tensor(0.25))


def test_merge_skips_a_view_that_adds_nothing() -> None:
    merge = Merge()
    first, second = torch.full((4, 4, 3), 0.2), torch.full((4, 4, 3), 0.8)
    trust = torch.ones(4, 4, 1)
    assert merge.add(first, trust)
    assert not merge.add(second, trust)
    texture, painted = merge.result()
    assert torch.equal(texture, first) and painted.all() and merge.skipped == 1


def test_a_view_that_sees_nothing_gives_zeros() -> None:
    """The reference ended in an exception here (maximum of an empty set)."""
    mesh = sphere()
    away = draw(prepare(mesh.vertices, mesh.faces, mesh.uv), View(0, center=(50.0, 0, 0)), (32, 32))
    texture, trust = back_project(torch.ones(32, 32, 3), away, (16, 16))
    assert not texture.any() and not trust.any()


def _drawing(azimuth_deg: float, size: tuple[int, int], device: str | torch.device = "cpu") -> Drawing:
    mesh = sphere()
    return draw(prepare(mesh.vertices, mesh.faces, mesh.uv, mesh.faces, device=device), View(azimuth_deg, 20), size)


def _by_tensors(image: torch.Tensor, drawing: Drawing, size: tuple[int, int], margin_px: int) -> torch.Tensor:
    """Colour and trust as tensor operations over the samples give them, which is how accelerators do it."""
    safe = reliable(drawing, margin_px)
    assert drawing.mesh.uv is not None and drawing.mesh.uv_faces is not None
    uv = interpolate(drawing.mesh.uv, drawing.mesh.uv_faces, drawing.raster)[safe]
    samples = torch.cat([image[safe], facing(drawing, 75)[safe][:, None]], 1)
    return splat_mean(*size, uv.flip(1), samples)


@pytest.mark.parametrize(("size", "margin_px"), [((40, 64), 0), ((65, 33), 2), ((2, 3), 1)])
def test_one_pass_over_the_pixels_gives_what_tensor_operations_give(size: tuple[int, int], margin_px: int) -> None:
    drawing = _drawing(35, (96, 80))
    image = torch.rand(96, 80, 3, generator=torch.Generator().manual_seed(1))
    texture, trust = back_project(image, drawing, size, margin_px=margin_px)
    expected = _by_tensors(image, drawing, size, margin_px)
    assert (expected[..., 3] > 0).any()
    torch.testing.assert_close(torch.cat([texture, trust], 2), expected, rtol=0, atol=2e-6)


def test_threads_do_not_change_what_is_baked() -> None:
    image = torch.rand(96, 80, 3, generator=torch.Generator().manual_seed(2))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3, 5):
            torch.set_num_threads(count)
            found.append(torch.cat(back_project(image, _drawing(10, (96, 80)), (50, 61)), 2))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_depth_maps_run_from_the_farthest_to_the_nearest_point_that_is_seen() -> None:
    drawing = _drawing(0, (40, 30))
    depth = interpolate(drawing.camera[:, 2:3].contiguous(), drawing.mesh.faces, drawing.raster)
    seen = depth[drawing.raster.covered]
    expected = (depth - seen.min()) / (seen.max() - seen.min()) * drawing.visible
    assert torch.equal(depth_map(drawing), expected)


def test_merging_is_the_trusted_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    views = [(torch.rand(9, 7, 3, generator=generator), torch.rand(9, 7, 1, generator=generator)) for _ in range(3)]
    views = [(colour, torch.where(trust < 0.4, 0.0, trust)) for colour, trust in views]
    merge = Merge()
    assert all(merge.add(colour, trust) for colour, trust in views)
    total = sum((trust for _, trust in views), torch.zeros(9, 7, 1))
    mean = sum((colour * trust for colour, trust in views), torch.zeros(9, 7, 3)) / total.clamp(min=1e-8)
    texture, painted = merge.result()
    torch.testing.assert_close(texture, mean)
    assert torch.equal(painted, total > 1e-8) and not painted.all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_bakes_what_the_cpu_bakes() -> None:
    image = torch.rand(96, 80, 3, generator=torch.Generator().manual_seed(1))
    device = torch.accelerator.current_accelerator() or "cpu"
    expected = torch.cat(back_project(image, _drawing(35, (96, 80)), (65, 33), margin_px=1), 2)
    found = torch.cat(back_project(image.to(device), _drawing(35, (96, 80), device), (65, 33), margin_px=1), 2).cpu()
    # the camera's product rounds otherwise there, so single pixels at an edge may differ
    assert ((found - expected).abs().amax(2) > 1e-3).float().mean() < 0.01


def test_back_project_says_what_does_not_fit() -> None:
    mesh = sphere()
    drawing = draw(prepare(mesh.vertices, mesh.faces), View(0), (32, 32))
    with pytest.raises(MeshError, match="unwrap"):
        back_project(torch.ones(32, 32, 3), drawing, (16, 16))
    with pytest.raises(UsageError, match=r"\(16, 32\)"):
        back_project(torch.ones(16, 32, 3), drawing, (16, 16))


def test_vertex_colours_reach_every_vertex_of_a_connected_mesh() -> None:
    mesh = sphere()
    assert mesh.uv is not None
    texture, mask = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8)
    columns, rows = np.floor(mesh.uv[:, 0] * 63 + 0.5).astype(int), np.floor((1 - mesh.uv[:, 1]) * 63 + 0.5).astype(int)
    texture[rows[0], columns[0]], mask[rows[0], columns[0]] = 0.5, 255
    welded = np.unique(mesh.vertices, axis=0, return_inverse=True)[1].reshape(-1)
    positions = np.zeros((welded.max() + 1, 3), np.float32)
    positions[welded] = mesh.vertices
    filled, known = spread_over_vertices(texture, mask, positions, mesh.uv, welded[mesh.faces], mesh.faces)
    assert (known[rows, columns] == 255).mean() > 0.98  # the rest lies on half texels
    assert np.allclose(filled[known > 0], 0.5, atol=1e-5)
    assert mask.sum() == 255


def test_inpainting_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="mask"):
        spread_over_vertices(
            np.zeros((4, 4, 3)), np.zeros((5, 4)), np.zeros((3, 3)), np.zeros((3, 2)), *[np.zeros((1, 3), int)] * 2
        )
    with pytest.raises(UsageError, match="of 3"):
        spread_over_vertices(
            np.zeros((4, 4, 3)),
            np.zeros((4, 4)),
            np.zeros((3, 3)),
            np.zeros((3, 2)),
            np.full((1, 3), 3),
            np.zeros((1, 3), int),
        )


def test_flat_fill_keeps_known_texels() -> None:
    texture = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
    known = np.full((20, 20), 255, np.uint8)
    known[8:12, 8:12] = 0
    filled = fill_picture(texture, known)
    assert np.array_equal(filled[known > 0], (texture * 255).astype(np.uint8)[known > 0])
    assert filled[9:11, 9:11].any()
