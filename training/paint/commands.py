"""What the commands of ``python -m training.paint`` do, from parsed options. All of them return True when done."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hy3dgen.errors import UsageError
from hy3dgen.runtime.device import pick_device
from training import checkpoints
from training.generator.stream import block_generator
from training.log import JsonLines
from training.loop import Session
from training.paint import networks as nets
from training.paint import score
from training.paint.batches import GAINS
from training.paint.export import export as write_export
from training.paint.made import MadePool, can_make, opened_here
from training.paint.networks import PaintNetworks
from training.paint.phases import AutoencoderPhase, PaintOptions, PaintPhase, ViewsPhase
from training.paint.pool import Batch, Pool, held_out_block, opened, unpacked
from training.ranks import Ranks, joined
from training.schedules import BySteps, ByTime, Progress, Schedule, Until

BEST = "unseen_db"  # the figure that says which weights are kept
SHEET_SCENES = 12
STREAM_SEED = 3  # beside the shape model's phases
PHASES: dict[str, type[PaintPhase]] = {"vae": AutoencoderPhase, "unet": ViewsPhase}


@dataclass
class Start:
    """Networks, the state to go on from (else None) and the number of the next scene: the pool is filled anew from
    there, so a resumed piece sees other scenes than one that was not interrupted."""

    networks: PaintNetworks
    state: dict[str, Any] | None = None
    number: int = 0
    facts: dict[str, Any] = field(default_factory=dict)  # of shards


def load_networks(options: argparse.Namespace, device: torch.device, phase: str | None = None) -> Start:
    """From --out (--resume) or --load: the state when it is of this phase, else the shards; new weights without one."""
    folder: Path | None = options.out if getattr(options, "resume", False) else options.load
    if folder is None:
        config = nets.paint_config(
            vae_widths=tuple(options.vae_widths), unet_widths=tuple(options.unet_widths), view_px=options.view_px
        )
        networks = PaintNetworks(config)
        nets.initialise(networks, torch.Generator().manual_seed(options.seed))
        return Start(networks.to(device))
    if phase and (folder / checkpoints.STATE).is_file():
        state = checkpoints.read_state(folder, device)
        if state["phase"] == PHASES[phase].name:
            networks = PaintNetworks(state["config"]).to(device)
            return Start(networks, state, state["data"]["stream"]["block"])
    tensors, facts = checkpoints.read_shards(folder)
    networks = PaintNetworks(facts["config"])
    nets.load_tensors(networks, tensors, str(folder))
    return Start(networks.to(device), None, facts["stream"]["block"], facts)


def _compiled(options: argparse.Namespace, start: Start) -> Start:
    if options.compile:
        start.networks.compile_autoencoder()
    return start


def vae(options: argparse.Namespace) -> bool:
    """Phase one."""
    return _one_phase(options, "vae")


def unet(options: argparse.Namespace) -> bool:
    """Phase two."""
    if options.load is None and not options.resume:
        raise UsageError("phase unet needs a trained autoencoder: give --load with the folder of a vae run")
    return _one_phase(options, "unet")


def _one_phase(options: argparse.Namespace, name: str) -> bool:
    with joined(_prepared_device(options)) as (ranks, device):
        return _trained(options, name, ranks, device)


def _trained(options: argparse.Namespace, name: str, ranks: Ranks, device: torch.device) -> bool:
    start = _compiled(options, load_networks(options, device, name))
    same_piece = bool(options.resume and start.state and not start.state["finished"])
    if options.resume and not same_piece:
        raise UsageError(f"{options.out} holds no interrupted piece of phase {name}; leave out --resume")
    log = _log(options, ranks)
    with _opened(options, start, device, ranks) as (pool, executor):
        held_out = _held_out(options, start.networks, executor, device) if name == "unet" else None
        session = _session(options, name, start, pool, log, held_out, ranks)
        if start.state:
            session.load(start.state, same_piece=same_piece)
            if same_piece:
                session.progress = _progress(options, start.state["spent_s"])
        _note_start(options, start.networks, device, log, ranks)
        return session.run()


def both(options: argparse.Namespace) -> bool:
    """Everything in one command: two phases, evaluation, export, contact sheet."""
    with joined(_prepared_device(options)) as (ranks, device):
        return _both(options, ranks, device)


def _both(options: argparse.Namespace, ranks: Ranks, device: torch.device) -> bool:
    start = _compiled(options, load_networks(options, device))
    networks, within = start.networks, options.within
    log = _log(options, ranks)
    _note_start(options, networks, device, log, ranks)
    with _opened(options, start, device, ranks) as (pool, executor):
        held_out = _held_out(options, networks, executor, device)
        for name in PHASES:
            options.minutes, options.steps = getattr(options, f"{name}_minutes"), getattr(options, f"{name}_steps")
            options.within = within if name == "unet" else None
            session = _session(options, name, start, pool, log, held_out if name == "unet" else None, ranks)
            if not session.run():
                return False
            ranks.wait()  # the main process has written
            _apply_shards(networks, options.out)
            if name == "vae" and ranks.main and options.evaluations:
                with torch.compiler.set_stance("force_eager"):
                    log.write("evaluation", part="vae", **score.coded(networks, held_out()))
        if ranks.main:
            _finish(options, networks, held_out(), log)
        ranks.wait()
    return True


def _log(options: argparse.Namespace, ranks: Ranks) -> JsonLines:
    return JsonLines(options.out / ("log.jsonl" if ranks.main else f"log.{ranks.rank}.jsonl"), show=ranks.main)


def rates(options: argparse.Namespace) -> bool:
    """A few steps of each phase at full size, with what everything takes, and all that comes after them."""
    device = _prepared_device(options)
    start = _compiled(options, load_networks(options, device))
    networks = start.networks
    log, ranks = JsonLines(options.out / "log.jsonl"), Ranks()
    begin = time.monotonic()
    with _opened(options, start, device, ranks) as (pool, executor):
        held_out = _held_out(options, networks, executor, device)
        log.write("rates", what="first scenes", seconds=time.monotonic() - begin, scenes=pool.traced)
        if isinstance(pool, MadePool):
            _note_making(pool, device, log)
        options.minutes = options.within = None
        for name in PHASES:
            begin, before = time.monotonic(), pool.traced
            _session(options, name, start, pool, log, None, ranks).run()
            _apply_shards(networks, options.out)
            seconds = time.monotonic() - begin
            log.write("rates", what=name, seconds=seconds, scenes_per_s=(pool.traced - before) / seconds)
        begin = time.monotonic()
        _finish(options, networks, held_out(), log)
        log.write("rates", what="evaluation, export, sheet", seconds=time.monotonic() - begin)
        if device.type == "cuda":
            log.write("rates", what="memory", peak_gib=torch.cuda.max_memory_allocated(device) / 2**30)
    return True


def _note_making(pool: MadePool, device: torch.device, log: JsonLines) -> None:
    """How many scenes the device makes when it does nothing else."""
    for what in ("kernels compiled", "scenes made"):
        begin, before = time.monotonic(), pool.traced
        pool.fill_here(before + 4 * pool.at_once)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.monotonic() - begin
        log.write("rates", what=what, seconds=seconds, scenes_per_s=(pool.traced - before) / seconds)


def _finish(options: argparse.Namespace, networks: PaintNetworks, data: Batch, log: JsonLines) -> None:
    with torch.compiler.set_stance("force_eager"):
        log.write("evaluation", part="paint", **score.scored(networks.eval(), data))
        _write_sheet(options, networks, data)
    _exported(options, networks, log)


def evaluate(options: argparse.Namespace) -> bool:
    """PSNR of a run's averages on held-out shapes."""
    device = pick_device(options.device)
    networks = load_networks(options, device).networks.eval()
    data = _held_out(options, networks, None, device)()
    JsonLines(options.out / "log.jsonl").write("evaluation", part="paint", **score.scored(networks, data))
    return True


def export(options: argparse.Namespace) -> bool:
    """The official folder from a run's averages."""
    networks = load_networks(options, torch.device("cpu")).networks
    _exported(options, networks, JsonLines(options.out / "log.jsonl"))
    return True


def sheet(options: argparse.Namespace) -> bool:
    """The contact sheet, to sheet.png."""
    device = pick_device(options.device)
    networks = load_networks(options, device).networks.eval()
    _write_sheet(options, networks, _held_out(options, networks, None, device)())
    return True


def _write_sheet(options: argparse.Namespace, networks: PaintNetworks, data: Batch) -> None:
    picked = data[:: max(1, len(data) // SHEET_SCENES)]
    Image.fromarray(score.sheet(networks, picked[:SHEET_SCENES]).numpy()).save(options.out / "sheet.png")


def _exported(options: argparse.Namespace, networks: PaintNetworks, log: JsonLines) -> None:
    paths = write_export(networks, options.out)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in networks.named_children()}
    log.write("export", parameters=counts, bytes=sum(path.stat().st_size for path in paths))


def _prepared_device(options: argparse.Namespace) -> torch.device:
    device = pick_device(options.device)
    if device.type != "cpu":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    return device


@contextmanager
def _opened(
    options: argparse.Namespace, start: Start, device: torch.device, ranks: Ranks
) -> Iterator[tuple[Pool, ProcessPoolExecutor | None]]:
    seed = 10 * options.seed + STREAM_SEED + 1000 * ranks.rank  # every process has scenes of its own
    chosen = {"first": start.number, "capacity": options.pool, "size_px": start.networks.view_px}
    on_device = {"block": options.block, "reuse": options.reuse, "at_once": options.ahead}
    with ExitStack() as stack:
        if _made_here(options, device):
            opening = opened_here(device, seed, workers=options.workers, **chosen, **on_device)
        else:
            opening = opened(device, seed, workers=options.workers, **chosen)
        pool, executor = stack.enter_context(opening)
        if executor is None:
            pool.fill_here(min(options.least, options.pool))
        yield pool, executor


def _made_here(options: argparse.Namespace, device: torch.device) -> bool:
    """Whether scenes are made on the device. Raises UsageError when they shall be and cannot."""
    if options.scenes == "auto":
        return device.type == "cuda" and can_make(device)
    if options.scenes == "device" and not can_make(device):
        raise UsageError(f"{device} cannot make scenes; on CUDA that needs CuPy (pip install cupy-cuda13x)")
    return options.scenes == "device"


def _session(
    options: argparse.Namespace,
    name: str,
    start: Start,
    pool: Pool,
    log: JsonLines,
    held_out: Callable[[], Batch] | None,
    ranks: Ranks,
) -> Session:
    pool.wait_for(min(options.least, options.pool))
    networks = start.networks
    device = next(networks.parameters()).device
    chosen = PaintOptions(
        batch_size=options.vae_batch if name == "vae" else options.batch,
        noise_share=options.noise_share,
        gains=0.0 if isinstance(pool, MadePool) else GAINS,  # new scenes need no other palettes
    )
    generator = block_generator(device, options.seed, list(PHASES).index(name), pool.place()["block"], ranks.rank)
    phase = PHASES[name](networks, pool, generator, chosen, autocast=options.bf16)

    def evaluated() -> dict[str, Any]:
        assert held_out is not None
        with torch.compiler.set_stance("force_eager"):  # other sizes than in training: not worth a compilation
            return score.scored(networks, held_out())

    scores = held_out is not None and bool(options.evaluations)
    session = Session(
        phase=phase,
        progress=_progress(options, 0.0),
        schedule=Schedule(options.rate, options.decay, options.warm_up),
        out=options.out,
        log=log,
        log_every=options.log_every,
        evaluate=evaluated if scores else None,
        evaluations=max(options.evaluations, 1),
        optimiser_options={"least_side": 8, "convolutions": True},
        passes=2 if device.type == "cuda" else 0,  # cuDNN tries its algorithms before the clock starts
        keep_state=not options.no_state,
        ranks=ranks,
        best=BEST if scores else None,
    )
    if start.facts.get("phase") == phase.name:  # counts go on; a state brings its own
        session.step, session.samples = start.facts["step"], start.facts["samples"]
    return session


def _progress(options: argparse.Namespace, spent_s: float) -> Progress:
    if options.within:
        return Until(options.began + 60 * options.within - options.reserve)
    if options.steps:
        return BySteps(options.steps)
    return ByTime(options.minutes, spent_s=spent_s)


def _apply_shards(networks: PaintNetworks, folder: Path) -> None:
    """Take over the averages that a finished phase left."""
    tensors, facts = checkpoints.read_shards(folder)
    nets.load_tensors(networks, tensors, str(folder))
    networks.scale = facts["scale"]


def _held_out(
    options: argparse.Namespace, networks: PaintNetworks, executor: ProcessPoolExecutor | None, device: torch.device
) -> Callable[[], Batch]:
    """Tracing begins now, in the workers when there are some; calling the result waits for it."""
    names, size_px = score.held_out_names(options.per_category), networks.view_px
    parts = [names[i : i + 4] for i in range(0, len(names), 4)]
    waiting = [executor.submit(held_out_block, part, size_px) for part in parts] if executor else None
    kept: list[Batch] = []

    def data() -> Batch:
        if not kept:
            if waiting is None:
                blocks = [held_out_block(part, size_px) for part in parts]
            else:
                blocks = [future.result() for future in waiting]
            kept.append(unpacked(torch.from_numpy(np.concatenate(blocks)).to(device)))
        return kept[0]

    return data


def _note_start(
    options: argparse.Namespace, networks: PaintNetworks, device: torch.device, log: JsonLines, ranks: Ranks
) -> None:
    shown = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in networks.named_children()}
    log.write("start", options=shown, parameters=counts, device=str(device), processes=ranks.world)
