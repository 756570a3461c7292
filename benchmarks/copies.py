"""How fast weights come to a GPU, and what its context takes: python -m benchmarks.copies

Writes benchmarks/results/copies.json: GB/s of each way from host memory and from a mapped file, seconds to pin a GB,
and MiB that a process takes on the device before its first tensor and once some kernels are loaded. Needs CUDA.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.memory import machine
from hy3dgen.runtime.device import CUDA, pick_device
from hy3dgen.runtime.memory import MIB, register_pinned, unregister_pinned
from hy3dgen.runtime.uploads import Uploader

RESULT = Path(__file__).resolve().parent / "results" / "copies.json"
SIZE, TENSOR = 1 << 30, 32 << 20  # bytes in all, and of one tensor: about a layer of the published denoiser


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """Median seconds of a call, the device's work included."""
    taken = []
    for _ in range(times):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2]


def context_mb(device: torch.device) -> tuple[float, float]:
    """(MiB of the device beside tensors after the first one, and after a product, an attention and a convolution)."""

    def beside() -> float:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info(device)
        return (total - free - torch.cuda.memory_reserved(device)) / MIB

    x = torch.randn(1, 4, 512, 512, device=device, dtype=torch.float16)
    first = beside()
    flat = x.flatten(0, 1).flatten(0, 1)
    torch.nn.functional.scaled_dot_product_attention(x, x, x)
    torch.nn.functional.conv2d(x, x[:, :, :3, :3])
    _ = flat @ flat.T
    return first, beside()


def measured(device: torch.device) -> dict[str, float]:
    """All figures. The mapped file is in the system's page cache."""
    first, later = context_mb(device)
    host = torch.ones(SIZE, dtype=torch.uint8)
    pinned = torch.empty(SIZE // 4, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(SIZE // 4, dtype=torch.uint8, device=device)
    started = time.perf_counter()
    again = torch.empty(SIZE // 2, dtype=torch.uint8, pin_memory=True)
    asked = (time.perf_counter() - started) / (len(again) / 1e9)
    started = time.perf_counter()
    registered = register_pinned(host)
    existing = (time.perf_counter() - started) / (SIZE / 1e9)
    if registered:
        unregister_pinned(host)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        path.write_bytes(host.numpy().tobytes())
        tensors = torch.from_file(str(path), shared=False, size=SIZE, dtype=torch.uint8).split(TENSOR)
        plain = SIZE / 1e9 / seconds(lambda: [part.to(device) for part in tensors])
        pieces = SIZE / 1e9 / seconds(lambda: _uploaded(tensors, device))
    return {
        "context_first_mb": first,
        "context_kernels_mb": later,
        "pinned_gb_s": len(pinned) / 1e9 / seconds(lambda: there.copy_(pinned, non_blocking=True)),
        "mapped_plain_gb_s": plain,
        "mapped_in_pieces_gb_s": pieces,
        "pin_new_s_gb": asked,
        "pin_existing_s_gb": existing,
    }


def _uploaded(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    upload = Uploader(device)
    return [upload(part) for part in tensors]


def main(argv: list[str] | None = None) -> int:
    """Measure and write. Raises UsageError without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULT)
    values = parser.parse_args(argv)
    device = pick_device(CUDA)  # raises UsageError without one
    found = {"machine": machine(CUDA), "figures": {name: round(value, 3) for name, value in measured(device).items()}}
    values.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found["figures"], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
