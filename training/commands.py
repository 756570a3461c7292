"""What the commands of ``python -m training`` do, from parsed options."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hy3dgen
from benchmarks.shapes import CATEGORIES, MORE
from hy3dgen.errors import UsageError
from hy3dgen.runtime.attention import resolve_backend
from hy3dgen.runtime.device import pick_device
from hy3dgen.weights.config import read_yaml
from training import checkpoints
from training import evaluate as evaluation
from training import networks as nets
from training.evaluate import Ahead
from training.export import export as write_export
from training.export import num_parameters
from training.flow import FlowOptions, FlowPhase
from training.generator import augment
from training.generator import pictures as looks
from training.generator.draw import BROAD, WEIGHTS, blocks
from training.generator.stream import ShapeStream, block_generator
from training.log import JsonLines
from training.loop import Phase, Session
from training.networks import Networks
from training.ranks import Ranks, joined, started_at
from training.schedules import BySteps, ByTime, Progress, Schedule, Until
from training.vae import VaeOptions, VaePhase

logger = logging.getLogger(__name__)
RESTART_WARM_UP = 50
FIRST_WARM_UP = 100
HEAD_FIRST = 200
PHASE_SEEDS = {"vae": 1, "flow": 2}  # the phases see different shapes


@dataclass
class Start:
    """What a command begins with. state: to go on exactly, else None; facts: of shards, else {}; new_head: trained
    weights came without a side head"""

    networks: Networks
    state: dict[str, Any] | None
    facts: dict[str, Any]
    new_head: bool = False


def load_networks(options: argparse.Namespace, device: torch.device) -> Start:
    """Networks from --load, --config or the shipped weights. Without --fresh everything is loaded."""
    folder: Path | None = options.load
    if getattr(options, "resume", False):
        folder = options.out
    phase = options.command if options.command in PHASE_SEEDS else None
    if folder is not None and phase and (folder / checkpoints.STATE).is_file():
        state = checkpoints.read_state(folder, device)
        known = state.get("num_views", 1)
        same_views = getattr(options, "views", None) in (None, known)  # else the pool lacks views, or has too many
        if state["phase"] == phase and not options.fresh and same_views:
            made = Networks(state["config"], num_points=state["num_points"], num_views=known).to(device)
            return Start(made, state, {})
    if folder is not None and (folder / checkpoints.MANIFEST).is_file():
        tensors, facts = checkpoints.read_shards(folder)
        config, points, known = facts["config"], facts["num_points"], facts.get("num_views", 1)
    elif options.config is not None and folder is None:
        tensors, facts, config, points, known = {}, {}, read_yaml(options.config), None, 1
    else:
        home = folder or Path(hy3dgen.__file__).parent / "assets" / "nano"
        config, tensors = nets.read_folder(home, options.point_encoder)
        facts, points, known = {}, None, nets.views_of(home)
    if getattr(options, "image_size", None):
        config = nets.with_image_size(config, options.image_size)
    points = points or getattr(options, "points", 2048)
    networks = Networks(config, num_points=points, num_views=getattr(options, "views", None) or known)
    _fill(networks, tensors, options, phase)
    new_head = phase == "flow" and not options.fresh and "side.weight" not in tensors
    return Start(networks.to(device), None, facts if facts.get("phase") == phase else {}, new_head)


def _fill(networks: Networks, tensors: dict[str, Tensor], options: argparse.Namespace, phase: str | None) -> None:
    generator = torch.Generator().manual_seed(options.seed)
    nets.initialise(networks, generator)
    if getattr(options, "fresh", False):
        tensors = {name: tensor for name, tensor in tensors.items() if phase == "flow" and name.startswith("vae.")}
        fresh = {name: value for name, value in networks.state_dict().items() if name not in tensors}
        tensors = fresh | tensors
    if tensors:
        nets.load_tensors(networks, tensors, partial=True, source=str(options.load or "the shipped weights"))
    elif phase == "flow":
        raise UsageError("phase flow needs a trained VAE: give --load with the folder of a vae run")
    has_encoder = any(name.startswith("vae.encoder.") for name in tensors)
    if phase == "flow" and not has_encoder:
        raise UsageError(
            "the loaded weights have no point encoder, which makes the latents that the denoiser learns; give "
            "--point-encoder FILE, or --load with the folder of a vae run"
        )


def train(options: argparse.Namespace) -> bool:
    """Phases vae and flow. True when the piece is over, False when a signal ended it."""
    with joined(pick_device(options.device)) as (ranks, device):
        return _train(options, ranks, device)


def _train(options: argparse.Namespace, ranks: Ranks, device: torch.device) -> bool:
    start = load_networks(options, device)
    networks, state = start.networks, start.state
    ahead = None
    if options.evaluations:  # another process prepares while this one compiles
        prepared = {"categories": _held_out_names(options), "views": networks.num_views}
        ahead = Ahead(networks.image_size, options.every, options.held_out, ranks, **prepared)
    if device.type != "cpu":
        torch.set_float32_matmul_precision("high")
    if options.compile:
        compile_blocks(networks)
    same_piece = bool(options.resume and state and not state["finished"])
    if options.resume and not same_piece:
        raise UsageError(f"{options.out} holds no interrupted piece of phase {options.command}; leave out --resume")
    place = state["data"]["stream"] if state else start.facts.get("stream", {"block": 0, "offset": 0})
    seed = 10 * options.seed + PHASE_SEEDS[options.command]
    log = JsonLines(options.out / ("log.jsonl" if ranks.main else f"log.{ranks.rank}.jsonl"), show=ranks.main)
    first, offset = place["block"] + ranks.rank, place["offset"] if ranks.world == 1 else 0
    chosen = {"size": options.block, "workers": options.workers, "stride": ranks.world, "weights": _weights(options)}
    with blocks(seed, first, **chosen) as source:
        stream = ShapeStream(
            source, device, seed, block=first, offset=offset, engine=options.generator, stride=ranks.world
        )
        generator = block_generator(device, seed, first, offset, ranks.rank)
        phase = _phase(options, networks, stream, generator, HEAD_FIRST if start.new_head else 0)
        restarted = state is None and not options.fresh
        warm_up = options.warm_up if options.warm_up is not None else RESTART_WARM_UP if restarted else FIRST_WARM_UP
        session = Session(
            phase=phase,
            progress=_progress(options, state["spent_s"] if same_piece and state else 0.0),
            schedule=Schedule(options.rate, options.decay, warm_up),
            out=options.out,
            log=log,
            log_every=options.log_every,
            evaluate=_evaluator(options, networks, ahead, ranks) if ahead else None,
            evaluations=max(options.evaluations, 1),
            passes=2 if options.compile else 0,
            keep_state=not options.no_state,
            ranks=ranks,
        )
        if state:
            session.load(state, same_piece=same_piece)
        else:
            session.step, session.samples = start.facts.get("step", 0), start.facts.get("samples", 0)
        if ranks.main:
            shown = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
            counted = {"parameters": num_parameters(networks), "device": str(device), "processes": ranks.world}
            log.write("start", options=shown, **counted, samples=session.samples)
        return session.run()


def _weights(options: argparse.Namespace) -> dict[str, float]:
    """The VAE has always seen every category; --shapes is about flow."""
    return BROAD if getattr(options, "shapes", "recipe") == "broad" else WEIGHTS


def _progress(options: argparse.Namespace, spent_s: float) -> Progress:
    if options.within:
        return Until(started_at() + 60 * options.within - options.reserve)
    return BySteps(options.steps) if options.steps else ByTime(options.minutes, spent_s=spent_s)


def _phase(
    options: argparse.Namespace, networks: Networks, stream: ShapeStream, generator: torch.Generator, head_first: int
) -> Phase:
    if options.command == "vae":
        chosen = VaeOptions(batch_size=options.batch, num_queries=options.queries, kl=options.kl, ahead=options.ahead)
        return VaePhase(networks, stream, generator, chosen, autocast=options.bf16)
    varied = options.looks == "varied"
    flow = FlowOptions(
        batch_size=options.batch,
        pool=options.pool,
        reuse=options.reuse,
        side=0.0 if options.no_side else 0.5,
        coupling=options.coupling,
        ahead=options.ahead,
        compiled=options.compile,
        head_first=head_first,
        looks=looks.VARIED if varied else looks.RECIPE,
        camera=augment.PHOTOGRAPHS if varied else augment.RECIPE,
    )
    return FlowPhase(networks, stream, generator, flow, autocast=options.bf16)


def _held_out_names(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(CATEGORIES if options.set == "fixed" else MORE)


def _evaluator(
    options: argparse.Namespace, networks: Networks, ahead: Ahead, ranks: Ranks
) -> Callable[[], dict[str, Any]]:
    score = evaluation.reconstructed if options.command == "vae" else evaluation.generated

    def run() -> dict[str, Any]:
        try:
            data = ahead.result()
        except (ImportError, OSError, BrokenExecutor) as error:
            data = None  # a figure less is better than a piece of training lost
            logger.warning("no evaluation: the held-out shapes could not be prepared (%s)", error)
        if not all(ranks.gathered(data is not None)):
            return {"skipped": "the held-out shapes could not be prepared"}
        assert data is not None
        with torch.compiler.set_stance("force_eager"):  # other shapes than in training: not worth a compilation
            figures = score(networks, data, ranks=ranks)
            more = {}
            if options.command == "flow" and networks.num_views > 1:
                more = evaluation.generated(networks, data.from_all_sides(), ranks=ranks)
        named = ("iou", "iou_median", "chamfer", "count")
        suffix = f"_{networks.num_views}"
        return {name: figures[name] for name in named} | {name + suffix: more[name] for name in named if more}

    return run


def compile_blocks(networks: Networks) -> None:
    """Have torch fuse each block when it first runs. The attention back end is that of this moment."""
    torch.compiler.assume_constant_result(resolve_backend)  # else every attention splits its block's graph
    vae, model = networks.vae, networks.model
    assert vae.encoder is not None and vae.encoder.self_attn is not None
    for group in (
        model.double_blocks,
        model.single_blocks,
        vae.transformer.resblocks,
        vae.encoder.self_attn.resblocks,
        [vae.encoder.cross_attn],
        networks.image_encoder.model.encoder.layer,
    ):
        for block in group:
            block.compile()


def export(options: argparse.Namespace) -> None:
    """Write the averages of a run, or loaded weights, as an official folder."""
    networks = load_networks(options, torch.device("cpu")).networks
    written = write_export(networks, options.out)
    log = JsonLines(options.out / "log.jsonl")
    sizes = {path.relative_to(options.out).as_posix(): path.stat().st_size for path in sorted(written)}
    log.write("export", parameters=num_parameters(networks), bytes=sizes)


def evaluate(options: argparse.Namespace) -> None:
    """Score a run's averages on the held-out shapes; the record goes to log.jsonl."""
    device = pick_device(options.device)
    networks = load_networks(options, device).networks.eval()
    names = _held_out_names(options)
    prepared = {"every": options.every, "pictures": options.held_out, "categories": names}
    data = evaluation.held_out(networks.image_size, views=networks.num_views, **prepared)
    log = JsonLines(options.out / "log.jsonl")
    if options.part == "vae":
        log.write("evaluation", part="vae", **evaluation.reconstructed(networks, data))
        return
    for guidance in options.guidance:
        figures = evaluation.generated(networks, data, guidance=guidance, seed=options.seed)
        log.write("evaluation", part="flow", guidance=guidance, **figures)
        if networks.num_views > 1:
            around = data.from_all_sides()
            figures = evaluation.generated(networks, around, guidance=guidance, seed=options.seed)
            log.write("evaluation", part="flow", views=networks.num_views, guidance=guidance, **figures)


def pictures(options: argparse.Namespace) -> None:
    """Store the held-out pictures for a machine without OpenCV, in --out."""
    size = options.image_size or evaluation.IMAGE_PX
    name = f"held-out-{size}.zip" if options.views == 1 else f"held-out-{size}-{options.views}.zip"
    evaluation.write_pictures(options.out / name, size, options.every, options.views)


def rates(options: argparse.Namespace) -> None:
    """How fast every part is here."""
    from training.rates import measure_all

    with joined(pick_device(options.device)) as (ranks, device):
        measure_all(options, ranks, device)


def sheet(options: argparse.Namespace) -> None:
    """Export to --out and draw inputs beside the meshes that the public pipeline makes of them, to sheet.png."""
    from training.sheet import contact_sheet

    export(options)
    found = contact_sheet(options.out, options.pictures, every=options.every, guidance=options.guidance[0])
    found.save(options.out / "sheet.png")
