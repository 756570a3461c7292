"""Train, export and evaluate the embedded model: `python -m training vae|flow|export|evaluate|sheet|… --out DIR`.

A piece of training ends after --minutes, or on SIGTERM, and leaves in --out: state.pt (to go on exactly on this
machine), fp16 shards with hashes (to go on elsewhere), log.jsonl. See docs/training.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from hy3dgen.errors import Hy3dgenError, UsageError

TRAINED = ("vae", "flow")
NUM_VIEWS = 4  # what a model for several views looks at: one picture of each side
SEVERAL = (*TRAINED, "rates")  # commands that use several GPUs


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=(__doc__ or "").splitlines()[0])
    phases = parser.add_subparsers(dest="command", required=True)
    helps = {
        "vae": "phase one: point encoder and field decoder",
        "flow": "phase two: image encoder and denoiser",
        "export": "write the official model folder",
        "evaluate": "score on the fixed held-out shapes",
        "pictures": "store the held-out pictures, for evaluation on a machine without OpenCV",
        "rates": "how fast every part is on this machine, each for a few seconds",
        "sheet": "a picture of inputs and what the exported model makes of them",
    }
    for name, text in helps.items():
        command = phases.add_parser(name, help=text)
        _common_options(command)
        if name in SEVERAL:
            command.add_argument(
                "--processes", default="auto", help="that train together, one GPU each; auto: all GPUs, 1 on the CPU"
            )
        if name in TRAINED:
            _training_options(command, name)
        if name in (*TRAINED, "evaluate"):
            command.add_argument(
                "--set",
                choices=("fixed", "more"),
                default="fixed",
                help="held-out shapes: the published 24 categories, or the later ones",
            )
            command.add_argument("--held-out", type=Path, help="pictures that the command 'pictures' stored")
        if name in (*TRAINED, "evaluate", "sheet", "pictures"):
            default = 4 if name in TRAINED else 1
            command.add_argument(
                "--every", type=int, default=default, help="take every n-th of a category's 16 held-out shapes"
            )
        if name in ("flow", "pictures"):
            command.add_argument(
                "--image-size", type=int, help="pixels of the image encoder, a multiple of 14: 168 as shipped, 224"
            )
        if name in ("flow", "pictures", "rates"):
            _views_option(command, None if name == "flow" else 1)
        if name == "rates":
            _rates_options(command)
        if name in ("evaluate", "sheet"):
            command.add_argument("--guidance", type=float, nargs="+", default=[3.0], help="guidance scales")
        if name == "evaluate":
            command.add_argument(
                "--part", choices=TRAINED, default="flow", help="vae: reconstruction; flow: generation"
            )
        if name == "sheet":
            command.add_argument("--pictures", type=Path, help="folder of cut-out pictures; held-out shapes otherwise")
    return parser


def _common_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--out", type=Path, required=True, help="folder for the results")
    add(
        "--load",
        type=Path,
        help="folder of an earlier run, or an official model folder; the shipped weights if left out",
    )
    add("--point-encoder", type=Path, help="point encoder file of an official model folder that has none beside it")
    add("--device", default="auto", help="auto, cuda, cuda:N or cpu")
    add("--seed", type=int, default=0, help="seed of shapes, weights and noise")
    add("--config", type=Path, help="official config.yaml of other sizes, for networks from nothing")


def _views_option(command: argparse.ArgumentParser, default: int | None) -> None:
    text = f"{NUM_VIEWS}: pictures of all sides of a shape, too"
    text += "; as many as the loaded weights know if left out" if default is None else ""
    command.add_argument("--views", type=int, choices=(1, NUM_VIEWS), default=default, help=text)


def _training_options(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument
    add("--minutes", type=float, help="training time of this piece; evaluation and start-up come on top")
    add("--steps", type=int, help="steps instead of minutes: repeats exactly on one machine")
    add(
        "--within",
        type=float,
        help="minutes instead: everything, start-up and evaluation too, from the command's start",
    )
    add("--reserve", type=float, default=45.0, help="seconds of --within left for saving and the last evaluation")
    add("--no-state", action="store_true", help="leave shards only, not the full state for this machine")
    add(
        "--fresh",
        action="store_true",
        help="start from new weights" + ("" if name == "vae" else " (the VAE is loaded)"),
    )
    add("--resume", action="store_true", help="finish the interrupted piece in --out")
    add("--rate", type=float, default=2e-3, help="learning rate")
    add("--decay", type=float, default=0.4 if name == "vae" else 0.0, help="share of the piece with falling rate")
    add("--warm-up", type=int, help="steps of rising rate; 100, after a restart of the optimiser 50")
    add("--batch", type=int, default=256, help="shapes a step")
    add("--points", type=int, default=2048, help="surface points of the point encoder")
    add("--workers", type=int, default=0, help="processes that draw shapes ahead; on a GPU about the number of cores")
    add("--block", type=int, default=256, help="shapes that are drawn and normalised at once; thousands on a GPU")
    add("--ahead", type=int, default=1, help="batches of new data that are made at once; on a GPU about 8")
    add("--compile", action="store_true", help="fuse the networks' blocks by torch.compile")
    add("--generator", choices=("auto", "kernels", "torch"), default="auto", help="how shapes are evaluated")
    add("--bf16", action="store_true", help="bf16 arithmetic in the networks")
    add("--log-every", type=int, default=25, help="steps a log record")
    add("--evaluations", type=int, default=0, help="held-out evaluations within the piece, see --every")
    if name == "vae":
        add("--queries", type=int, default=2048, help="field values a shape")
        add("--kl", type=float, default=1e-3, help="weight of the KL")
        return
    add("--pool", type=int, default=24576, help="shapes kept for reuse")
    add("--reuse", type=float, default=3.0, help="uses of a shape")
    add("--no-side", action="store_true", help="leave out the side loss")
    add("--coupling", action="store_true", help="pair noise and data by a kd-tree")
    add("--shapes", choices=("recipe", "broad"), default="recipe", help="broad: characters, thin and busy things too")
    add(
        "--looks", choices=("recipe", "varied"), default="recipe", help="varied: unlit, cel-shaded, photograph-like too"
    )


def _rates_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--seconds", type=float, default=45.0, help="about so long in all; compilation comes on top")
    add("--batch", type=int, default=256, help="shapes a step")
    add("--workers", type=int, default=8, help="processes that draw shapes")
    add("--compile", action="store_true", help="measure compiled networks too")
    add("--bf16", action="store_true", help="bf16 arithmetic in the networks")


def _processes(options: argparse.Namespace) -> int:
    """How many to start; 0 when this is one of them already."""
    wanted = getattr(options, "processes", "1")
    if "WORLD_SIZE" in os.environ:
        return 0
    if wanted != "auto":
        if not wanted.isdigit() or int(wanted) < 1:
            raise UsageError(f"--processes {wanted} is neither 'auto' nor a number from 1 on")
        return int(wanted)
    if options.device not in ("auto", "cuda"):
        return 1
    import torch

    return max(torch.cuda.device_count(), 1) if torch.cuda.is_available() else 1


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for wrong options or inputs, 3 when a signal ended the piece."""
    options = build_parser().parse_args(argv)
    try:
        if options.command in TRAINED:
            given = [value for value in (options.minutes, options.steps, options.within) if value is not None]
            if len(given) != 1:
                raise UsageError("give either --minutes or --steps, or --within")
        if options.command in SEVERAL and (processes := _processes(options)) > 1:
            from training.ranks import launch

            return launch(sys.argv[1:] if argv is None else argv, processes)
        from training import commands

        if options.command in TRAINED:
            return 0 if commands.train(options) else 3
        getattr(commands, options.command)(options)
    except Hy3dgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    from training.ranks import leave  # not before: --help needs no torch

    leave(code)
