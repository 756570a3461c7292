"""Compiled CPU loops: numba functions without the interpreter lock, run over row bands by ordinary threads.

Bands instead of numba's own thread pool: safe when several threads of a service call at once, quick to compile, and
results cannot depend on the number of threads because every band writes rows of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from hy3dgen.meshes.jit import compiled

__all__ = ["compiled", "run_bands"]


def run_bands(kernel: Callable[..., None], rows: int, *arguments: object, bands_per_thread: int = 4) -> None:
    """Call ``kernel(first_row, end_row, *arguments)`` for bands that cover all rows, on torch's number of threads."""
    threads = max(1, torch.get_num_threads())
    bands = min(max(1, rows), threads * bands_per_thread) if threads > 1 else 1
    edges = [rows * band // bands for band in range(bands + 1)]
    if bands == 1:
        kernel(0, rows, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(kernel, first, end, *arguments) for first, end in pairwise(edges)]
        for job in jobs:
            job.result()
