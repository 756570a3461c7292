"""What the first call of an attention shape costs on a GPU, and what its kernel saves afterwards.

    python -m benchmarks.first_calls       # some seconds on a GPU, writes benchmarks/results/first_calls.json

Rows: {attention, shape: [batch, heads, queries, keys, channels], and for each choice of kernels first_ms and steady_ms;
another_thread_ms: the first call of the same shape in another thread, once the main one has made it}. float16.
'usual' is torch's own choice. The time of a first call is the host's and the device's together.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hy3dgen.runtime.attention.sdpa import ALL_KERNELS
from hy3dgen.runtime.clock import Stopwatch
from hy3dgen.runtime.device import describe, pick_device, synchronize

RESULT = Path(__file__).resolve().parent / "results" / "first_calls.json"
KINDS = {"usual": ALL_KERNELS, "flash": [SDPBackend.FLASH_ATTENTION], "cudnn": [SDPBackend.CUDNN_ATTENTION]}
SHAPES = {
    "shape denoiser, both halves": (2, 16, 4442, 4442),
    "shape denoiser, one half": (1, 16, 3073, 4442),
    "paint, a view's own pixels": (6, 5, 4096, 4096),
    "paint, text": (6, 5, 4096, 77),
    "paint, all views, 64 px": (1, 5, 24576, 24576),
    "paint, all views, 32 px": (1, 10, 6144, 6144),
    "paint, reference": (1, 5, 24576, 4096),
    "decoder, 2048 points": (1, 16, 2048, 3072),
    "decoder, 16384 points": (1, 16, 16384, 3072),
}
CHANNELS, REPEATS = 64, 10
Row = dict[str, Any]


def measured_ms(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Milliseconds of a call, the device's work included."""
    synchronize(device)
    watch = Stopwatch()
    for _ in range(repeats):
        call()
    synchronize(device)
    return round(1000 * watch.elapsed_s / repeats, 3)


def row_of(name: str, shape: tuple[int, int, int, int], device: torch.device) -> Row:
    """One shape with every choice of kernels; a kernel that does not take it is left out."""
    batch, heads, queries, keys = shape
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    q = torch.randn(batch, heads, queries, CHANNELS, device=device, dtype=dtype)
    k, v = (torch.randn(batch, heads, keys, CHANNELS, device=device, dtype=dtype) for _ in range(2))
    row: Row = {"attention": name, "shape": [*shape, CHANNELS]}

    def call() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v)

    for kind, kernels in KINDS.items():
        try:
            with sdpa_kernel(kernels):
                row[kind] = {"first_ms": measured_ms(call, device), "steady_ms": measured_ms(call, device, REPEATS)}
        except RuntimeError:
            continue
    times: list[float] = []
    thread = threading.Thread(target=lambda: times.append(measured_ms(call, device)))
    thread.start()
    thread.join()
    return {**row, "another_thread_ms": times[0]}


def main(argv: list[str] | None = None) -> int:
    """Measure every shape and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--output", type=Path, default=RESULT)
    values = parser.parse_args(argv)
    device = pick_device(values.device)
    with torch.no_grad():
        for _ in range(2):  # libraries load at the first call of all
            scaled_dot_product_attention(*torch.zeros(3, 1, 1, 16, CHANNELS, device=device))
        rows = [row_of(name, SHAPES[name], device) for name in values.shapes]
    machine = {"device": describe(device), "torch": torch.__version__}
    values.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"written to {values.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
