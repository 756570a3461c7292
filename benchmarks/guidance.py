"""What carrying one token for 'no picture' saves: python -m benchmarks.guidance [--check | --time nano|2|2mini …]

Writes benchmarks/results/guidance.json. 'predicted': operations of a guided step, counted without a GPU on full-size
networks on torch's meta device (a multiplication and an addition are two), and what it needs beside its weights, as
``benchmarks.counted`` counts it. 'measured', with --time: seconds of a guided step with random weights and inputs,
every way in turn; on the CPU those that one thread computes, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.counted import HALF, META, MIB, CountedTensors
from benchmarks.memory import machine
from hy3dgen.runtime.device import CPU, CUDA, pick_device, synchronize
from hy3dgen.runtime.graphs import WARM_UP, Replayed
from hy3dgen.runtime.linear import fast_linears
from hy3dgen.shapegen import sampling
from hy3dgen.shapegen.models.denoisers import hunyuandit, moe_layers
from hy3dgen.shapegen.models.denoisers.halves import Alike, Halves
from hy3dgen.shapegen.models.denoisers.hunyuan3ddit import PROJECTED, Hunyuan3DDiT

RESULT = Path(__file__).resolve().parent / "results" / "guidance.json"
WAYS = ("all tokens", "one token")
ROUNDS = 30
PLAIN: dict[str, Any] = {
    "input_size": 4096, "in_channels": 64, "hidden_size": 2048, "context_dim": 1024, "depth": 21, "num_heads": 16,
    "qk_norm": True, "text_len": 1370, "use_attention_pooling": False, "qkv_bias": False,
}  # fmt: skip
NANO: dict[str, Any] = {
    "in_channels": 16, "context_in_dim": 256, "hidden_size": 256, "num_heads": 4, "depth": 3, "depth_single_blocks": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A denoiser and what it is given."""

    build: Callable[[], nn.Module]
    latents: int
    tokens: int


CASES = {
    "2": Case(Hunyuan3DDiT, 3072, 1370),
    "2mini": Case(lambda: Hunyuan3DDiT(depth=8, depth_single_blocks=16), 512, 1370),
    "2mv, four views": Case(Hunyuan3DDiT, 3072, 4 * 1370),
    "2.1": Case(lambda: hunyuandit.HunYuanDiTPlain(**PLAIN), 4096, 1370),
    "nano": Case(lambda: Hunyuan3DDiT(**NANO), 256, 145),
}


class _Attention(TorchFunctionMode):
    """Counts what attention multiplies, and leaves it out."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.operations += 4 * math.prod(args[0].shape) * args[1].shape[2]
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def _every_token_by_k(block: Any, tokens: Tensor, experts: Tensor, probabilities: Tensor) -> Tensor:
    """Stands in for the routing, which reads values: each token through as many experts."""
    for expert in block.experts[: block.moe_top_k]:
        tokens = expert(tokens)
    return tokens


@contextmanager
def _routed_without_values() -> Iterator[None]:
    route = moe_layers.MoEBlock.route
    moe_layers.MoEBlock.route = _every_token_by_k  # type: ignore[method-assign]
    try:
        yield
    finally:
        moe_layers.MoEBlock.route = route  # type: ignore[method-assign]


def counted_step(model: nn.Module, case: Case, way: str, *, split: bool) -> dict[str, float]:
    """Operations and memory of a guided step on the meta device."""
    is_plain = isinstance(model, hunyuandit.HunYuanDiTPlain)
    key, width = (hunyuandit.TOKENS, model.context_dim) if is_plain else (PROJECTED, model.hidden_size)
    condition: Any = torch.empty(2, case.tokens, width, dtype=HALF, device=META)
    if way == "one token":
        condition = Halves(condition[:1], Alike(condition[1:, :1], case.tokens))
    latents = torch.empty(1, case.latents, model.in_channels, dtype=HALF, device=META)
    times = torch.empty(1, dtype=HALF, device=META)
    follow = sampling.guided(model, {key: condition}, 5.0, split=split)
    with torch.no_grad(), _routed_without_values():
        with _Attention() as attention, FlopCounterMode(display=False) as products:
            follow(latents, times)
        with _Attention(), CountedTensors() as tensors:
            follow(latents, times)
    return {
        "linear_tflop": round(products.get_total_flops() / 1e12, 4),
        "attention_tflop": round(attention.operations / 1e12, 4),
        "tensors_mb": round(tensors.peak / MIB, 1),
    }


def predictions(names: Iterable[str] = tuple(CASES)) -> list[dict[str, Any]]:
    """All counts of these models. share: of the operations of a step with all tokens."""
    rows = []
    for name in names:
        case = CASES[name]
        with META:
            model = case.build().to(HALF).eval().requires_grad_(False)
        whole = 0.0
        for split in (False, True):
            for way in WAYS:
                row = counted_step(model, case, way, split=split)
                total = row["linear_tflop"] + row["attention_tflop"]
                whole = whole or total
                sizes = {"model": name, "latents": case.latents, "picture_tokens": case.tokens}
                rows.append({**sizes, "way": way, "cfg_split": split, **row, "share": round(total / whole, 3)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The counts as docs/memory.md has them: both halves together, all tokens and one."""
    lines = ["| model | linear layers, TFLOP | attention, TFLOP | of all | tensors, MB |", "|---|--:|--:|--:|--:|"]
    together = [row for row in rows if not row["cfg_split"]]
    for every, one in zip(together[::2], together[1::2], strict=True):
        linear, attention = (f"{every[key]} → {one[key]}" for key in ("linear_tflop", "attention_tflop"))
        memory = f"{every['tensors_mb']} → {one['tensors_mb']}"
        lines.append(f"| {one['model']} | {linear} | {attention} | {one['share']:.1%} | {memory} |")
    return "\n".join(lines)


def timed(name: str, device: torch.device) -> dict[str, Any]:
    """Seconds of a guided step of one model, every way in turn: median and least of ``ROUNDS``."""
    case = CASES[name]
    torch.manual_seed(0)
    dtype = torch.float32 if device.type == CPU else HALF
    model: Any = case.build().to(device, dtype).eval().requires_grad_(False)
    width = model.context_dim if isinstance(model, hunyuandit.HunYuanDiTPlain) else model.context_in_dim
    picture = torch.randn(1, case.tokens, width, device=device, dtype=dtype)
    condition = {"main": torch.cat([picture, torch.zeros_like(picture)])}
    latents = torch.randn(1, case.latents, model.in_channels, device=device, dtype=dtype)
    times = torch.full((1,), 0.5, device=device, dtype=dtype)
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    clock = time.process_time if device.type == CPU else time.perf_counter
    with torch.inference_mode(), fast_linears(*([model] if device.type == CPU else [])):
        follow = {
            "all tokens": sampling.guided(model, model.prepare_condition(condition), 5.0),
            "one token": sampling.guided(model, model.prepare_guided(condition), 5.0),
        }
        # The experts' routing reads values, which a recording cannot.
        if device.type == CUDA and name != "2.1":
            follow = {way: Replayed(step) for way, step in follow.items()}
        for index in range(ROUNDS + WARM_UP + 1):
            for way, step in follow.items():
                synchronize(device)
                started = clock()
                velocity = step(latents, times)
                synchronize(device)
                if index > WARM_UP:
                    taken[way].append(clock() - started)
        assert bool(torch.isfinite(velocity).all())
    rows = {way: {"median_s": round(median(s), 5), "least_s": round(min(s), 5)} for way, s in taken.items()}
    where = machine(device.type) | {"threads": torch.get_num_threads()}
    return {"model": name, "machine": where, "rounds": ROUNDS, "rows": rows}


def main(argv: list[str] | None = None) -> int:
    """Write the counts, and times when asked for, or check the counts; 1 when they are old."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guidance")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the counts are old")
    parser.add_argument("--time", nargs="*", default=[], choices=list(CASES), help="models to time on this machine")
    parser.add_argument("--device", default=None, help="where to time them (default: the best here)")
    options = parser.parse_args(argv)
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"measured": []}
    found = {"predicted": predictions(), "measured": known["measured"]}
    if options.check:
        if known == found:
            return 0
        print("benchmarks/results/guidance.json is old; write it with: python -m benchmarks.guidance", file=sys.stderr)
        return 1
    device = pick_device(options.device)
    if device.type == CPU:
        torch.set_num_threads(1)
    for name in options.time:
        row = timed(name, device)
        same = [
            r for r in found["measured"] if (r["model"], r["machine"]["device"]) != (name, row["machine"]["device"])
        ]
        found["measured"] = [*same, row]
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
