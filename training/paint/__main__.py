"""Train nano's paint model: `python -m training.paint vae|unet|both|rates|export|evaluate|sheet --out DIR`.

A piece of training ends after its minutes, or on SIGTERM, and leaves in --out: state.pt (weights, optimiser and
averages, to go on with on this machine, on scenes behind those that were traced: the pool is filled anew), fp16 shards
with hashes (to go on elsewhere), log.jsonl. See docs/training.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hy3dgen.errors import Hy3dgenError, UsageError

TRAINED = ("vae", "unet", "both", "rates")
HELPS = {
    "vae": "phase one: the autoencoder",
    "unet": "phase two: the UNet, and the decoder with it",
    "both": "both phases one after the other, then evaluation, export and contact sheet, on one pool of scenes",
    "rates": "some steps of both phases at full size, and how fast everything is; seconds on a GPU",
    "export": "write the official paint folder",
    "evaluate": "PSNR on held-out shapes, in views",
    "sheet": "truth, first guess and painted views of held-out shapes, as a picture",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.paint", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in HELPS.items():
        command = commands.add_parser(name, help=text)
        add = command.add_argument
        add("--out", type=Path, required=True, help="folder for the results")
        add("--load", type=Path, help="folder of an earlier run: its state for the same phase, else its shards")
        add("--device", default="auto", help="auto, cuda, cuda:N or cpu")
        add("--seed", type=int, default=0, help="seed of scenes, weights and noise")
        add("--workers", type=int, default=0, help="processes that trace scenes; about the number of cores")
        add("--per-category", type=int, default=2, help="held-out shapes of each of the 24 categories")
        _size_options(command)
        if name in TRAINED:
            _training_options(command, name)
    return parser


def _size_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--view-px", type=int, default=128, help="pixels of a view, for new networks")
    add("--vae-widths", type=int, nargs="+", default=[16, 24, 32], help="channels of the autoencoder's levels")
    add("--unet-widths", type=int, nargs="+", default=[32, 48], help="channels of the UNet's levels")


def _training_options(command: argparse.ArgumentParser, name: str) -> None:
    add = command.add_argument
    if name in ("vae", "unet"):
        add("--minutes", type=float, help="training time of this piece; start-up and evaluation come on top")
        add("--steps", type=int, help="steps instead of minutes")
        _clock_options(command, "")
        add("--resume", action="store_true", help="finish the interrupted piece in --out")
    if name == "both":
        add("--vae-minutes", type=float, default=1.2, help="training time of phase one")
        add("--unet-minutes", type=float, default=3.0, help="training time of phase two")
        add("--vae-steps", type=int, help="steps instead")
        add("--unet-steps", type=int, help="steps instead")
        _clock_options(command, " in place of --unet-minutes")
    if name == "rates":
        add("--steps", type=int, default=20, help="steps of each phase")
    add("--rate", type=float, default=2e-3, help="learning rate")
    add("--decay", type=float, default=0.5, help="share of the piece with falling rate")
    add("--warm-up", type=int, default=60, help="steps of rising rate")
    add("--batch", type=int, default=96, help="scenes a step of the UNet")
    add("--vae-batch", type=int, default=48, help="scenes a step of the autoencoder, seven pictures each")
    add("--noise-share", type=float, default=0.15, help="scenes that start from noise in place of the guess")
    _scene_options(command)
    add("--no-state", action="store_true", help="leave shards only, not the full state for this machine")
    add("--compile", action="store_true", help="fuse the autoencoder by torch.compile")
    add("--bf16", action="store_true", help="bf16 arithmetic in the networks")
    add("--log-every", type=int, default=25, help="steps a log record")
    add("--evaluations", type=int, default=2, help="held-out evaluations within phase two")


def _clock_options(command: argparse.ArgumentParser, instead: str) -> None:
    add = command.add_argument
    add("--within", type=float, help=f"minutes from the command's start by which all is done{instead}")
    add("--reserve", type=float, default=30.0, help="seconds of --within left for saving and the last evaluation")


def _scene_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--scenes",
        choices=("auto", "device", "workers"),
        default="auto",
        help="where scenes are made: by compiled kernels on the device (auto: on CUDA with CuPy), workers only draw "
        "parameters; or by the workers on the CPU",
    )
    add("--pool", type=int, default=24576, help="scenes kept on the device, 0.95 MB each at 128 px")
    add("--least", type=int, default=1024, help="scenes that are there before the first step")
    add("--reuse", type=float, default=2.0, help="uses of a scene that is made on the device")
    add("--ahead", type=int, default=256, help="scenes that are made on the device at once")
    add("--block", type=int, default=256, help="shapes that are drawn at once for scenes made on the device")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for wrong options or inputs, 3 when a signal ended the piece."""
    began = time.time()
    options = build_parser().parse_args(argv)
    options.began = began
    from training.paint import commands

    try:
        if options.command in ("vae", "unet"):
            given = [value for value in (options.minutes, options.steps, options.within) if value is not None]
            if len(given) != 1:
                raise UsageError("give either --minutes or --steps, or --within")
        return 0 if getattr(commands, options.command)(options) else 3
    except Hy3dgenError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    code = main()
    from training.ranks import leave  # not before: --help needs no torch

    leave(code)
