"""Texels, alignment, projection and filling, each against something that it must not break."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hy3dgen.baking import project_torch
from hy3dgen.baking.align import fit
from hy3dgen.baking.fill import _solved, nearest, pull_push
from hy3dgen.baking.project import Painting
from hy3dgen.baking.shots import FULL_TRUST, Shot, depth_of, level_depth_of
from hy3dgen.baking.texels import Surface, Texels, texels_of, texels_of_points
from hy3dgen.errors import ImageError, MeshError, UsageError
from hy3dgen.rendering.cameras import View
from tests.baking.shapes import picture, sphere


def points_of(texels: Texels, surface: Surface) -> np.ndarray:
    corners = surface.positions[surface.faces[texels.face_ids - 1]]
    return (texels.barycentrics[..., None] * corners).sum(-2)


def shot_of(azimuth_deg: float, size: int = 128) -> tuple[Surface, Shot]:
    mesh = sphere()
    surface, view = Surface.of(mesh), View(azimuth_deg)
    depth, covered = depth_of(surface, view, (size, size))
    image = np.ascontiguousarray(np.array(picture(mesh, azimuth_deg, size))[..., :3])
    return surface, Shot(view, image, image[::8, ::8].copy(), covered.astype(np.float32), depth)


def test_texels_find_the_surface_and_gutters_continue_it() -> None:
    mesh = sphere()
    surface, texels = Surface.of(mesh), texels_of(mesh, 96)
    inside, gutter = texels.chart, (texels.face_ids > 0) & ~texels.chart
    radius = np.linalg.norm(points_of(texels, surface), axis=-1)
    assert radius[inside].min() > 0.55 and radius[inside].max() < 0.5751
    assert gutter.sum() > 100
    assert radius[gutter].min() > 0.5 and radius[gutter].max() < 0.75
    assert texels.barycentrics[inside].min() >= 0
    np.testing.assert_allclose(texels.barycentrics[texels.face_ids > 0].sum(-1), 1, atol=1e-4)


def test_one_texel_for_every_position() -> None:
    surface = Surface.of(sphere())
    texels = texels_of_points(surface)
    found = points_of(texels, surface)[:, 0]
    np.testing.assert_allclose(found[surface.points], surface.positions, atol=1e-6)


def test_texels_need_uv() -> None:
    mesh = sphere()
    with pytest.raises(MeshError, match="unwrap"):
        texels_of(mesh.with_(uv=None), 32)
    assert mesh.uv is not None
    with pytest.raises(MeshError, match="none of"):
        texels_of(mesh.with_(uv=np.zeros_like(mesh.uv)), 32)


def test_projection_shows_the_picture_where_the_camera_looks() -> None:
    surface, shot = shot_of(0)
    painting = Painting(texels_of(sphere(), 64))
    painting.add(surface, shot)
    toward = points_of(painting.texels, surface)[..., 1]  # renderer y is file z
    seen = painting.trust > FULL_TRUST
    assert seen.any() and not painting.trust[painting.texels.face_ids == 0].any()
    away = np.abs(toward[seen]).min()
    assert away > 0.2 and len(set(np.sign(toward[seen]))) == 1


def test_hidden_surfaces_are_not_painted() -> None:
    """A small sphere behind a large one must stay unseen."""
    near = sphere()
    vertices = np.concatenate([near.vertices, near.vertices * 0.3 + np.float32([0, 0, -2])])
    faces = np.concatenate([near.faces, near.faces + len(near.vertices)])
    assert near.uv is not None
    uv = np.concatenate([near.uv * np.float32([0.5, 1]), near.uv * np.float32([0.5, 1]) + np.float32([0.5, 0])])
    mesh = near.with_(vertices=vertices, faces=faces, uv=uv)
    surface, view = Surface.of(mesh), View(0)
    depth, covered = depth_of(surface, view, (128, 128))
    image = np.full((128, 128, 3), 200, np.uint8)
    painting = Painting(texels_of(mesh, 64))
    painting.add(surface, Shot(view, image, image[::8, ::8].copy(), covered.astype(np.float32), depth))
    assert painting.trust[:, :30].max() > 0.5
    assert painting.trust[:, 34:].max() == 0


def test_a_level_view_is_looked_through_as_ever() -> None:
    """Looking along the horizontal is the view's own ray there: the two ways agree, and a level view takes the old."""
    surface, shot = shot_of(30)
    assert level_depth_of(surface, shot.view, (128, 128)) is None
    assert level_depth_of(surface, View(30, 90), (128, 128)) is None
    plain, level = Painting(texels_of(sphere(), 64)), Painting(texels_of(sphere(), 64))
    plain.add_fallback(surface, shot, symmetry=True)
    level.add_fallback(surface, replace(shot, level_depth=shot.depth), symmetry=True)
    assert np.array_equal(plain.fallback_trust, level.fallback_trust) and plain.fallback_trust.max() > 0
    np.testing.assert_allclose(plain.fallback, level.fallback, rtol=1e-3, atol=1e-3)


def test_tensor_path_equals_the_compiled_one() -> None:
    surface, shot = shot_of(30)
    texels = texels_of(sphere(), 64)
    compiled, tensors = Painting(texels), Painting(texels)
    compiled.add(surface, shot)
    sums = project_torch.Sums(texels, torch.device("cpu"))
    sums.add(surface, shot)
    tensors.colour, tensors.trust, tensors.count = sums.collect()
    close = np.isclose(compiled.trust, tensors.trust, atol=2e-4)
    assert close.mean() > 0.998  # a depth on the limit may fall on either side
    np.testing.assert_allclose(compiled.colour[close], tensors.colour[close], atol=0.1)
    assert (compiled.count[close] == tensors.count[close]).mean() > 0.998
    assert compiled.trust.max() > 0.9


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_sums_views_as_the_cpu_does() -> None:
    """Two views one after the other, so that sums which stay on the device are tried."""
    mesh, device = sphere(), torch.accelerator.current_accelerator()
    host, there = Painting(texels_of(mesh, 128)), Painting(texels_of(mesh, 128, device=device or "cpu"))
    assert np.array_equal(host.texels.face_ids, there.texels.face_ids)
    for azimuth in (0, 40):
        surface, shot = shot_of(azimuth)
        host.add(surface, shot)
        there.add(surface, shot, device=device)
    there.collect()
    close = np.isclose(host.trust, there.trust, atol=2e-4)
    assert close.mean() > 0.998
    np.testing.assert_allclose(host.colour[close], there.colour[close], atol=0.2)
    assert (host.count == there.count).mean() > 0.998 and host.count.max() == 2


def test_perspective_views_are_refused() -> None:
    with pytest.raises(UsageError, match="orthographic"):
        depth_of(Surface.of(sphere()), View(0, fovy_deg=40), (16, 16))


@pytest.mark.parametrize(("scale", "shift"), [((0.5, 0.5), (40, 10)), ((0.6, 0.45), (5, 60))])
def test_fit_finds_scale_and_shift(scale: tuple[float, float], shift: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:200, :200]
    silhouette = ((columns - 100) ** 2 / 3600 + (rows - 90) ** 2 / 6400 < 1) | (
        (columns > 90) & (rows > 120) & (columns < 150) & (rows < 190)
    )
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    py, px = np.mgrid[:180, :180]
    source = np.einsum("ij,jhw->ihw", inverse[:2, :2], np.stack([px, py])) + inverse[:2, 2, None, None]
    sx, sy = np.rint(source).astype(int)
    inside = (sx >= 0) & (sy >= 0) & (sx < 200) & (sy < 200)
    alpha = np.where(inside & silhouette[sy.clip(0, 199), sx.clip(0, 199)], 255, 0).astype(np.uint8)
    found, overlap = fit(alpha, silhouette)
    assert overlap > 0.96
    corners = np.array([[60, 60, 1], [140, 60, 1], [100, 150, 1]]).T
    np.testing.assert_allclose(found @ corners, matrix @ corners, atol=1.5)


def test_fit_of_nothing() -> None:
    with pytest.raises(ImageError, match="transparent"):
        fit(np.zeros((8, 8), np.uint8), np.ones((8, 8), bool))
    matrix, overlap = fit(np.full((8, 8), 255, np.uint8), np.zeros((8, 8), bool))
    assert overlap == 0 and np.array_equal(matrix, np.eye(2, 3))


@pytest.mark.parametrize("size", [(64, 64), (33, 50), (1, 7), (1, 1)])
def test_pull_push_keeps_known_pixels_and_stays_in_range(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(40, 200, (*size, 3)).astype(np.uint8)
    known = rng.random(size) < 0.3
    known.flat[0] = True
    filled = pull_push(image, known)
    assert np.array_equal(filled[known], image[known])
    assert filled.min() >= 39 and filled.max() <= 200
    flat = pull_push(np.repeat(np.where(known, np.uint8(77), np.uint8(0))[..., None], 3, axis=2), known)
    assert np.abs(flat.astype(int) - 77).max() <= 1


def test_nearest_takes_the_closest_known_pixel() -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    known = np.zeros((9, 9), bool)
    known[4, 0], known[4, 8] = True, True
    image[4, 0], image[4, 8] = 10, 200
    filled = nearest(image, known)
    assert (filled[:, :4] == 10).all() and (filled[:, 5:] == 200).all()
    assert np.array_equal(nearest(image, known & False), image)


def test_corrections_solve_their_system() -> None:
    from scipy import sparse

    rng = np.random.default_rng(0)
    links = sparse.random(60, 60, density=0.1, random_state=0)
    links = links + links.T
    laplacian = sparse.diags(np.asarray(links.sum(axis=1)).reshape(-1)) - links
    system = (laplacian + sparse.diags(np.linspace(0.01, 1, 60))).tocsr()
    wanted = np.concatenate([rng.normal(size=(60, 2)), np.zeros((60, 1))], axis=1)
    found = _solved(system, wanted, np.zeros((60, 3)), tolerance=1e-10)
    np.testing.assert_allclose(found, np.linalg.solve(system.toarray(), wanted), atol=1e-7)
