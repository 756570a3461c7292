"""Every back end against the plain reference, and input that must not hurt."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hy3dgen.errors import MeshError, UsageError
from hy3dgen.rendering.rasterizers import automatic, interpolate, rasterize, triton_gpu


def soup(seed: int, faces: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clip = torch.rand(faces * 2, 4, generator=generator) * 2.6 - 1.3
    clip[:, 3] = 0.5 + torch.rand(faces * 2, generator=generator)
    return clip, torch.randint(0, faces * 2, (faces, 3), generator=generator, dtype=torch.int32)


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("size", [(37, 53), (64, 20), (1, 1), (2, 7)])
@pytest.mark.parametrize("seed", [0, 1])
def test_backends_equal_the_plain_reference(backend: str, size: tuple[int, int], seed: int) -> None:
    clip, faces = soup(seed)
    prior = torch.rand(size, generator=torch.Generator().manual_seed(seed)) - 0.5
    for depth_prior in (None, prior):
        expected = rasterize(clip, faces, size, backend="reference", depth_prior=depth_prior)
        found = rasterize(clip, faces, size, backend=backend, depth_prior=depth_prior)
        assert torch.equal(found.face_ids, expected.face_ids)
        assert torch.equal(found.barycentrics, expected.barycentrics)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_backends_equal_the_plain_reference_without_parity_too(backend: str) -> None:
    for seed, size in ((0, (37, 53)), (1, (64, 20)), (2, (1, 1))):
        clip, faces = soup(seed)
        expected = rasterize(clip, faces, size, backend="reference", parity=False)
        found = rasterize(clip, faces, size, backend=backend, parity=False)
        assert torch.equal(found.face_ids, expected.face_ids) and torch.equal(found.barycentrics, expected.barycentrics)
        assert size == (1, 1) or not torch.equal(found.face_ids, rasterize(clip, faces, size, backend=backend).face_ids)


@pytest.mark.parametrize("backend", ["numba", "torch", "reference"])
def test_only_without_parity_is_a_sheet_right_above_another_seen(backend: str) -> None:
    """The reference cuts depth to 2^18 steps, within which the lower face number wins, nearer or not."""
    sheet = torch.tensor([[-3.0, -3, 0.1, 1], [3, -3, 0.1, 1], [0, 4, 0.1, 1]])
    nearer = sheet - torch.tensor([0, 0, 1e-6, 0])
    clip, faces = torch.cat([sheet, nearer]), torch.tensor([[0, 1, 2], [3, 4, 5]])
    seen = [rasterize(clip, faces, (5, 5), backend=backend, parity=parity).face_ids for parity in (True, False)]
    assert (seen[0] == 1).all() and (seen[1] == 2).all()


@pytest.mark.parametrize("backend", ["numba", "torch", "reference"])
def test_without_parity_the_picture_ends_where_device_space_does(backend: str) -> None:
    half = torch.tensor([[-9.0, -9, 0, 1], [0, -9, 0, 1], [-9, 99, 0, 1], [0, 99, 0, 1]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    covered = rasterize(half, faces, (4, 6), backend=backend, parity=False).covered
    assert torch.equal(covered, (torch.arange(6) < 3).expand(4, 6))


@pytest.mark.parametrize("backend", ["numba", "torch", "reference"])
def test_hostile_corners_draw_nothing_and_hide_nothing(backend: str, device: str = "cpu") -> None:
    """NaN, infinities, overflowing areas and w = 0 once made whole pictures or endless loops."""
    good = torch.tensor([[-0.9, -0.9, 0, 1], [0.9, -0.9, 0, 1], [0, 0.9, 0, 1]], dtype=torch.float32)
    bad = torch.tensor(
        [[float("nan"), 0, 0, 1], [float("inf"), 0, 0, 1], [3e38, -3e38, 0, 1], [1, 1, 0, 0], [0, 0, float("nan"), 1],
         [-3e37, 3e37, 0, 1], [1e20, 1e20, 0, 1]]
    )  # fmt: skip
    clip = torch.cat([good, bad]).to(device)
    good = good.to(device)
    hostile = torch.tensor([[0, 1, k] for k in range(3, 10)] + [[5, 8, 9], [0, 0, 0]], dtype=torch.int32).to(device)
    face = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    faces = torch.cat([hostile, face])
    clean = rasterize(good, face, (16, 16), backend=backend)
    raster = rasterize(clip, faces, (16, 16), backend=backend)
    assert torch.isfinite(raster.barycentrics).all()
    shown = raster.face_ids[clean.covered]
    assert (shown > 0).all()
    assert int(rasterize(clip, hostile[[0, 1, 3, 4, 8]], (16, 16), backend=backend).face_ids.max()) == 0


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_off_screen_and_whole_screen_faces(backend: str) -> None:
    clip = torch.tensor(
        [[-50, -50, 0, 1], [80, -50, 0, 1], [0, 90, 0, 1], [5, 5, 0, 1], [6, 5, 0, 1], [5, 6, 0, 1]]
    ).float()
    faces = torch.tensor([[3, 4, 5], [0, 1, 2]], dtype=torch.int64)
    assert (rasterize(clip, faces, (31, 17), backend=backend).face_ids == 2).all()


def test_a_larger_face_than_a_chunk_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from hy3dgen.rendering.rasterizers import plain_torch

    clip, faces = soup(5)
    expected = rasterize(clip, faces, (90, 90), backend="torch")
    monkeypatch.setattr(plain_torch, "PAIRS_PER_CHUNK", 100)
    assert torch.equal(rasterize(clip, faces, (90, 90), backend="torch").face_ids, expected.face_ids)


def test_threads_do_not_change_the_result() -> None:
    clip, faces = soup(3)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = rasterize(clip, faces, (101, 77))
        torch.set_num_threads(3)
        three = rasterize(clip, faces, (101, 77))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.barycentrics, three.barycentrics)


def test_empty_mesh_and_interpolation_of_background() -> None:
    raster = rasterize(torch.zeros(0, 4), torch.zeros(0, 3, dtype=torch.int32), (4, 5))
    assert not raster.covered.any()
    assert torch.equal(
        interpolate(torch.ones(1, 2), torch.zeros(1, 3, dtype=torch.int32), raster), torch.zeros(4, 5, 2)
    )


def test_interpolation_reproduces_linear_attributes() -> None:
    clip, faces = soup(7)
    clip[:, 3] = 1
    raster = rasterize(clip, faces, (40, 30))
    values = interpolate(clip[:, :2].contiguous(), faces, raster).numpy()
    columns = (np.arange(30) / 29 * 2 - 1)[None, :, None]
    rows = (np.arange(40) / 39 * 2 - 1)[:, None, None]
    expected = np.concatenate(np.broadcast_arrays(columns, rows), axis=2)
    covered = raster.covered.numpy()
    np.testing.assert_allclose(values[covered], expected[covered], atol=2e-4)


def test_errors_say_what_was_given() -> None:
    clip, faces = soup(0)
    with pytest.raises(MeshError, match="of 120 vertices"):
        rasterize(clip, faces + 120, (4, 4))
    with pytest.raises(UsageError, match="0 x 4"):
        rasterize(clip, faces, (0, 4))
    with pytest.raises(UsageError, match="unknown rasteriser"):
        rasterize(clip, faces, (4, 4), backend="cr")
    with pytest.raises(UsageError, match=r"clip \(V, 4\)"):
        rasterize(clip[:, :3], faces, (4, 4))


def test_triton_is_refused_where_it_cannot_draw() -> None:
    clip, faces = soup(0)
    with pytest.raises(UsageError, match="'triton' cannot be used here: it draws on CUDA, not on cpu"):
        rasterize(clip, faces, (4, 4), backend="triton")


def test_a_device_without_a_working_triton_draws_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda")  # only named, never used
    monkeypatch.setattr(triton_gpu, "unusable", lambda _: "RuntimeError: no C compiler")
    assert automatic(device) == "torch"
    monkeypatch.setattr(triton_gpu, "unusable", lambda _: None)
    assert automatic(device) == "triton"
    assert automatic(torch.device("cpu")) == automatic(torch.device("mps")) == "numba"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_triton_kernels_equal_the_plain_reference_in_the_interpreter() -> None:
    """Triton runs the kernels in Python on the CPU; in a process of its own, because it decides when it is imported."""
    code = """
import torch
from tests.rendering.test_rasterizers import soup
from hy3dgen.rendering.rasterizers import rasterize
for size, seed in (((17, 23), 0), ((1, 1), 1), ((2, 7), 2)):
    clip, faces = soup(seed)
    prior = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    for depth_prior, parity in ((None, True), (prior, True), (None, False)):
        how = {"depth_prior": depth_prior, "parity": parity}
        expected = rasterize(clip, faces, size, backend="reference", **how)
        found = rasterize(clip, faces, size, backend="triton", **how)
        assert torch.equal(found.face_ids, expected.face_ids)
        assert torch.equal(found.barycentrics, expected.barycentrics)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, check=True)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("backend", ["auto", "torch", "triton"])
@pytest.mark.parametrize("size", [(256, 200), (1, 1), (2, 7), (37, 53), (1024, 1024)])
def test_cuda_back_ends_equal_the_cpu_bit_for_bit(backend: str, size: tuple[int, int]) -> None:
    for seed in (11, 12):
        clip, faces = soup(seed, 500)
        prior = torch.rand(size, generator=torch.Generator().manual_seed(seed)) * 4 - 2
        for depth_prior, parity in ((None, True), (prior, True), (None, False)):
            expected = rasterize(clip, faces, size, backend="numba", depth_prior=depth_prior, parity=parity)
            there = None if depth_prior is None else depth_prior.cuda()
            found = rasterize(clip.cuda(), faces.cuda(), size, backend=backend, depth_prior=there, parity=parity)
            assert torch.equal(found.face_ids.cpu(), expected.face_ids)
            assert torch.equal(found.barycentrics.cpu(), expected.barycentrics)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_cuda_back_ends_survive_hostile_corners_and_nothing(backend: str) -> None:
    test_hostile_corners_draw_nothing_and_hide_nothing(backend, "cuda")
    empty = rasterize(
        torch.zeros(0, 4, device="cuda"), torch.zeros(0, 3, dtype=torch.int32, device="cuda"), (4, 5), backend=backend
    )
    assert not empty.covered.any() and torch.isfinite(empty.barycentrics).all()
    whole = torch.tensor([[-50, -50, 0, 1], [80, -50, 0, 1], [0, 90, 0, 1]], device="cuda").float()
    face = torch.tensor([[0, 1, 2]], device="cuda")
    assert (rasterize(whole, face, (301, 1700), backend=backend).face_ids == 1).all()


@pytest.mark.gpu
@cuda
def test_triton_is_what_auto_takes_on_cuda_when_it_is_installed() -> None:
    pytest.importorskip("triton")
    assert triton_gpu.unusable(torch.device("cuda", 0)) is None
    assert automatic(torch.device("cuda", 0)) == "triton"


@pytest.mark.gpu
@cuda
def test_cuda_draws_the_same_every_time_and_carries_the_same_values() -> None:
    clip, faces = soup(3, 2000)
    expected = rasterize(clip, faces, (300, 400))
    rasters = [rasterize(clip.cuda(), faces.cuda(), (300, 400)) for _ in range(3)]
    assert all(torch.equal(r.barycentrics, rasters[0].barycentrics) for r in rasters)
    values = torch.rand(len(clip), 5)
    carried = interpolate(values.cuda(), faces.cuda(), rasters[0]).cpu()
    torch.testing.assert_close(carried, interpolate(values, faces, expected), atol=1e-5, rtol=0)
