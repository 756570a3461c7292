"""Filling of holes in a picture: how good, and equal on any number of threads."""

from __future__ import annotations

import numpy as np
import torch

from hy3dgen.baking.fill import nearest, pull_push
from hy3dgen.baking.inpaint import fill_picture


def _smooth_picture(size: int) -> np.ndarray:
    """Waves of several lengths and a hard edge, (size, size, 3) uint8."""
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(7 * x + 3 * y) + 0.5 * np.cos(19 * y - 5 * x) + 0.3 * (x > 0.6) + k * 0.2 for k in range(3)]
    return np.clip(np.stack(waves, 2) * 60 + 110, 0, 255).astype(np.uint8)


def _psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(picture[where].astype(float) - truth[where]).mean()))


def test_pull_push_is_no_worse_than_navier_stokes_and_better_than_copies() -> None:
    truth = _smooth_picture(256)
    holes = np.kron(np.random.default_rng(2).random((16, 16)) < 0.2, np.ones((16, 16), bool))
    given = truth * ~holes[..., None]
    ours = _psnr(pull_push(given, ~holes), truth, holes)
    theirs = _psnr(fill_picture(given.astype(np.float32) / 255, (~holes).astype(np.uint8) * 255), truth, holes)
    assert ours > theirs
    assert ours > _psnr(nearest(given, ~holes), truth, holes) + 1


def test_sweeps_bring_a_hole_closer_to_a_plane_between_its_rims() -> None:
    ramp = np.repeat(np.tile(np.arange(20, 148, 2, dtype=np.uint8), (64, 1))[..., None], 3, axis=2)
    known = np.ones((64, 64), bool)
    known[20:44, 13:51] = False
    errors = [np.abs(pull_push(ramp * known[..., None], known, sweeps=n).astype(int) - ramp).max() for n in (0, 3, 20)]
    assert errors == [2, 1, 0]


def test_filling_does_not_depend_on_the_number_of_threads() -> None:
    truth = _smooth_picture(150)
    known = np.random.default_rng(4).random((150, 150)) < 0.1
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(pull_push(truth, known))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
