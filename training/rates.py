"""How fast every part of training is on this machine, so that a piece can be planned: one JSON line a part.

No part stops the others: what fails is reported with its reason. Several processes measure at once, as in training; the
figures are this process's own, ``all_per_s`` is their sum.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hy3dgen
from training import networks as nets
from training.flow import FlowOptions, FlowPhase
from training.generator import pictures, targets
from training.generator.draw import blocks, draw_block
from training.generator.kernels import kernels_for
from training.generator.stream import Lot, ShapeStream, block_generator, normalised_lot
from training.log import JsonLines
from training.optim import MuonAdamW
from training.ranks import Ranks
from training.vae import VaeOptions, VaePhase

# What training imports, and what only evaluation, export and pictures ahead of time need.
NEEDED = ("torch", "numpy", "numba", "scipy", "safetensors", "yaml", "PIL", "cupy", "triton")
OPTIONAL = ("cv2", "trimesh", "diffusers", "transformers", "skimage", "einops")
SHAPES, FEW_SHAPES = 2048, 64  # that a GPU and a CPU make at once
# Shares of the asked seconds; drawing and every kernel are quick to settle.
DRAW, KERNEL, STEP = 0.08, 0.05, 0.25


class Meter:
    """Times a function until its seconds are over, device work included."""

    def __init__(self, log: JsonLines, ranks: Ranks, device: torch.device) -> None:
        self._log, self._ranks, self._device = log, ranks, device

    def measure(self, part: str, seconds: float, items: int, run: Callable[[], object], unit: str) -> None:
        """Calls ``run``, which makes ``items``, once to warm up and then for ``seconds``."""
        with self.guarded(part) as facts:
            begin = time.perf_counter()
            run()
            self._wait()
            facts["first_s"] = time.perf_counter() - begin
            begin, calls = time.perf_counter(), 0
            # all go on together: a step waits for the other processes
            while calls == 0 or self._ranks.agreed(time.perf_counter() - begin, False)[0] < seconds:
                run()
                self._wait()
                calls += 1
            spent = time.perf_counter() - begin
            facts |= {"unit": unit, "per_s": items * calls / spent, "ms_a_call": 1000 * spent / calls, "calls": calls}

    @contextlib.contextmanager
    def guarded(self, part: str) -> Iterator[dict[str, Any]]:
        """Whatever fails inside is a record, not an end."""
        facts: dict[str, Any] = {}
        try:
            yield facts
        except Exception as error:  # noqa: BLE001 - the other parts are still worth measuring
            last = traceback.format_exc().strip().splitlines()[-6:]
            facts |= {"failed": f"{type(error).__name__}: {error}"[:500], "trace": last}
        if self._device.type == "cuda":
            facts["peak_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        found = self._ranks.gathered(dict(facts))
        for number, item in enumerate(found):
            if "failed" in item:
                facts.setdefault("failed", f"process {number}: {item['failed']}")
        if self._ranks.main:
            rates = [item["per_s"] for item in found if "per_s" in item]
            extra = {"all_per_s": sum(rates)} if self._ranks.world > 1 else {}
            self._log.write("rate", part=part, **facts, **extra)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def measure_all(options: argparse.Namespace, ranks: Ranks, device: torch.device) -> None:
    """Everything, to log.jsonl in --out."""
    torch.set_float32_matmul_precision("high")
    log = JsonLines(options.out / ("log.jsonl" if ranks.main else f"log.{ranks.rank}.jsonl"), show=ranks.main)
    meter = Meter(log, ranks, device)
    seconds = options.seconds
    with meter.guarded("machine") as facts:
        facts |= machine(device) | {"processes": ranks.world}
    with meter.guarded("mean of gradients") as facts:
        facts |= _collective(ranks, device)
    with blocks(11, ranks.rank, size=256, workers=options.workers, stride=ranks.world) as source:
        meter.measure(f"draw, {options.workers} workers", DRAW * seconds, 256, lambda: next(source), "shapes")
    made: list[Lot] = []
    drawn = draw_block(11, 0, SHAPES if device.type == "cuda" else FEW_SHAPES)

    def normalise() -> None:
        made[:] = [normalised_lot(drawn, device, block_generator(device, 11, 0))]

    meter.measure("centre and scale", KERNEL * seconds, len(drawn.counts), normalise, "shapes")
    if not made:
        return
    _agreement(meter, made[0], device)
    _generator(meter, made[0], device, seconds, options.views)
    for compiled in (False, True) if options.compile else (False,):
        _steps(meter, options, ranks, device, made[0], seconds / (2 if options.compile else 1), compiled)


def machine(device: torch.device) -> dict[str, Any]:
    """Device, versions, and which packages are here."""
    named = {"device": str(device), "cores": os.cpu_count(), "python": platform.python_version()}
    if device.type == "cuda":
        named["gpu"] = torch.cuda.get_device_name(device)
    missing = [name for name in (*NEEDED, *OPTIONAL) if not _found(name)]
    kernels = type(kernels_for(device)).__name__
    return named | {"torch": torch.__version__, "missing": missing, "kernels": kernels}


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def _collective(ranks: Ranks, device: torch.device) -> dict[str, Any]:
    values = [torch.full((20_000_000,), float(ranks.rank), device=device)]
    ranks.mean_(values)
    begin = time.perf_counter()
    for _ in range(5):
        ranks.mean_(values)
    expected = (ranks.world - 1) / 2
    right = abs(float(values[0][-1]) - expected) < 1e-6
    return {"ms_a_call": 200 * (time.perf_counter() - begin), "right": right}


def _agreement(meter: Meter, lot: Lot, device: torch.device) -> None:
    """Do the kernels of this machine compute what plain torch computes? Largest errors, grazing rays left out."""
    with meter.guarded("kernels against plain torch") as facts:
        few = lot[:32]
        plain = replace(few.solids, kernels=None)
        generator = torch.Generator(device).manual_seed(1)
        points = few.points(500, generator)
        where = targets.queries(points, 500, generator)
        facts["field"] = float((few.solids.field(where) - plain.field(where)).abs().quantile(0.99))
        facts["surface"] = float(plain.field(points[..., :3]).abs().quantile(0.99))
        cameras = pictures.fit_windows(points, few.views)
        scene = pictures.scene_of(cameras, few.lights, few.materials)
        one, side = pictures.render(few.solids, scene, 56, halves=few.halves)
        two, same = pictures.render(plain, scene, 56, halves=few.halves)
        facts["pixels_that_differ"] = float(((one.int() - two.int()).abs().amax(-1) > 4).float().mean())
        facts["side"] = float((side - same).abs().quantile(0.98))
        small = facts["field"] < 5e-3 and facts["surface"] < 5e-3 and facts["pixels_that_differ"] < 0.02
        facts["right"] = bool(small and facts["side"] < 0.02)


def _generator(meter: Meter, lot: Lot, device: torch.device, seconds: float, views: int) -> None:
    generator = torch.Generator(device).manual_seed(0)
    count = len(lot)
    points: list[Tensor] = []

    def surface() -> None:
        points[:] = [lot.points(2048, generator)]

    def field() -> None:
        targets.clamped_field(lot.solids, targets.queries(points[0], 2048, generator))

    meter.measure("2048 surface points", KERNEL * seconds, count, surface, "shapes")
    meter.measure("2048 field values", KERNEL * seconds, count, field, "shapes")
    for name, looks in (("pictures of 168 px", pictures.RECIPE), ("varied pictures", pictures.VARIED)):

        def photograph(looks: pictures.Looks = looks) -> None:
            lot.photograph(points[0], 168, generator, looks)

        meter.measure(name, KERNEL * seconds, count, photograph, "pictures")
    if views > 1:

        def walk_around() -> None:
            lot.photograph_around(points[0], 168, generator, pictures.VARIED)

        name = f"varied pictures of {views} sides"
        meter.measure(name, KERNEL * seconds, views * count, walk_around, "pictures")


class _Fixed(ShapeStream):
    """The same shapes again and again: what is measured here is the networks."""

    def __init__(self, lot: Lot) -> None:
        self._fixed = lot

    def take(self, count: int) -> Lot:
        device = self._fixed.halves.device
        return self._fixed[torch.arange(count, device=device) % len(self._fixed)]

    def place(self) -> dict[str, int]:
        return {"block": 0, "offset": 0}


def _steps(
    meter: Meter,
    options: argparse.Namespace,
    ranks: Ranks,
    device: torch.device,
    lot: Lot,
    seconds: float,
    compiled: bool,
) -> None:
    from training.commands import compile_blocks

    home = options.load or Path(hy3dgen.__file__).parent / "assets" / "nano"
    suffix = ", compiled" if compiled else ""

    def networks() -> nets.Networks:
        config, tensors = nets.read_folder(home)
        made = nets.Networks(config, num_views=options.views)
        nets.initialise(made, torch.Generator().manual_seed(0))
        nets.load_tensors(made, tensors, partial=True)
        if compiled:
            compile_blocks(made)
        return made.to(device)

    def stepper(phase: VaePhase | FlowPhase) -> Callable[[], None]:
        phase.prepare(0)
        optimiser = MuonAdamW(phase.parameters())

        def step() -> None:
            phase.loss()[0].backward()
            optimiser.step(1e-4, ranks)

        return step

    generator = torch.Generator(device).manual_seed(ranks.rank)
    flow = FlowOptions(batch_size=options.batch, pool=8 * options.batch, reuse=1e9, compiled=compiled)
    vae = VaeOptions(batch_size=options.batch, ahead=8)
    phases: dict[str, Callable[[], VaePhase | FlowPhase]] = {
        "flow step": lambda: FlowPhase(networks(), _Fixed(lot), generator, flow, autocast=options.bf16),
        "vae step": lambda: VaePhase(networks(), _Fixed(lot), generator, vae, autocast=options.bf16),
    }
    for name, make in phases.items():
        if compiled and name == "vae step":
            continue  # another compilation, and the vae is trained already
        share, views = (STEP, options.views) if name == "flow step" else (STEP / 2, 1)
        with meter.guarded(f"{name}, set up{suffix}") as facts:
            step = stepper(make())
            facts["ready"] = True
        if "failed" in facts:
            continue
        label = f"{name} of {options.batch}{f', {views} views' if views > 1 else ''}{suffix}"
        meter.measure(label, share * seconds, options.batch, step, "samples")
