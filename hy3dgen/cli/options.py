"""The options that both scripts share, declared once, in groups; and the parser that turns argv into values.

Every default is None and dropped, so that only ``jobs.options`` and the catalogue have defaults.
Nothing here imports torch, so ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import hy3dgen
from hy3dgen.errors import UsageError
from hy3dgen.jobs.options import ATTENTION, DECODERS, DTYPES, ORIGINS, REMBG_MODES, SCENARIOS, UNITS, UP_AXES

MODEL_NAMES = "auto, nano, 2, 2-fast, 2-turbo, 2mini, 2mini-fast, 2mini-turbo, 2mv, 2mv-fast, 2mv-turbo, 2.1"
MOST_VARIATIONS = 1000
TEXTURES_SHOWN = ("auto", "project", "none", "paint", "paint-turbo", "paint-nano")


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of ending the process, and names the nearest option for a typing slip."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; '{self.prog} --help' lists the options")

    def parse_all(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse, with a hint for unknown options."""
        values, unknown = self.parse_known_args(argv)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
            self.error(f"unknown argument '{unknown[0]}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        return values


class Once(argparse.Action):
    """Stores a path that may be given once: of two inputs for one place, neither may be dropped in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "is given twice; give one path")
        setattr(namespace, self.dest, values)


def make_parser(prog: str, description: str, groups: Sequence[Callable[[argparse.ArgumentParser], None]]) -> Parser:
    """A parser with the given option groups; abbreviations are off, so that new options never change old scripts."""
    parser = Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )
    for add in groups:
        add(parser)
    parser.add_argument("--version", action="version", version=f"hy3dgen {hy3dgen.__version__}")
    return parser


def given(values: argparse.Namespace, names: Sequence[str]) -> dict[str, object]:
    """What the user typed among ``names``; what was left out is dropped."""
    return {name: getattr(values, name) for name in names if getattr(values, name, None) is not None}


def add_input_path(group: argparse._ArgumentGroup, name: str, text: str, *, metavar: str = "PATH") -> None:
    """An option that names one thing to work from."""
    group.add_argument(name, type=typed_path, action=Once, metavar=metavar, help=text)


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Where results go and in which frame."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=typed_path,
        metavar="PATH",
        help="file to write, ending in .glb, .obj, .ply or .stl, or a folder (default: output/NAME.glb)",
    )
    _switch(group, "--overwrite", "replace existing files; without it a new name gets a number")
    group.add_argument(
        "--report", type=typed_path, metavar="FILE", help="JSON report of the run (default: beside the mesh, NAME.json)"
    )
    _switch(group, "--no-report", "write no report file; the GLB keeps its own copy")
    group.add_argument(
        "--preview",
        type=typed_path,
        metavar="FILE.png",
        help="picture of four views (default: beside the mesh, NAME.png)",
    )
    _switch(group, "--no-preview", "render no preview")
    group.add_argument("--units", choices=UNITS, help="unit of one step in the written file (default: m)")
    group.add_argument("--up", choices=UP_AXES, help="axis that points up in the written file (default: y)")
    group.add_argument(
        "--origin",
        choices=ORIGINS,
        help="where the origin lies: centre of the object, of its base, or where "
        "it was (default: centre; keep for a given mesh)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and how it samples and decodes."""
    group = parser.add_argument_group("shape")
    group.add_argument(
        "--model",
        metavar="NAME",
        help=f"{MODEL_NAMES}, a folder in the official layout, or a hub id (default: auto, what this machine has)",
    )
    group.add_argument("--steps", type=_whole, metavar="N", help="sampling steps (default: the model's own)")
    group.add_argument(
        "--guidance", type=_number, metavar="X", help="guidance scale; higher follows the picture more closely"
    )
    group.add_argument(
        "--octree-resolution",
        type=_whole,
        metavar="N",
        help="cells of the field along each axis (default: the model's own)",
    )
    group.add_argument(
        "--decoder", choices=DECODERS, help="how the field is read (default: hierarchical, same mesh as dense)"
    )
    group.add_argument("--faces", type=_whole, metavar="N", help="most triangles of the result (default: 40000)")
    group.add_argument("--seed", type=_whole, metavar="N", help="start of the random numbers (default: 0)")


def add_texture_options(parser: argparse.ArgumentParser) -> None:
    """How the mesh is coloured."""
    group = parser.add_argument_group("texture")
    group.add_argument(
        "--texture",
        choices=TEXTURES_SHOWN,
        help="project: carry the picture onto the mesh and fill the rest; paint: the official texture model; "
        "paint-nano: the small one in this package, beside the picture; none (default: auto, what suits the model)",
    )
    group.add_argument("--paint-steps", type=_whole, metavar="N", help="sampling steps of the texture model")
    group.add_argument("--delight-steps", type=_whole, metavar="N", help="sampling steps of the light removal")
    group.add_argument(
        "--delight",
        action=argparse.BooleanOptionalAction,
        help="remove light and shadow from the picture before painting (default: yes)",
    )
    _switch(group, "--unwrap", "make new UVs even when the given mesh has some")
    group.add_argument(
        "--texture-size", type=_whole, metavar="PIXELS", help="width and height of the texture, in pixels"
    )


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """What happens to a picture before it reaches the model."""
    group = parser.add_argument_group("picture")
    group.add_argument(
        "--rembg",
        choices=REMBG_MODES,
        help="background removal: auto (CPU, with a simple fallback), cpu or gpu (strict), off (default: auto)",
    )
    group.add_argument(
        "--max-image-size",
        type=_whole,
        metavar="PIXELS",
        help="longer side of the picture at most, in pixels (default: 1024)",
    )


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Where the work runs."""
    group = parser.add_argument_group("machine")
    group.add_argument("--device", metavar="NAME", help="auto, cuda, cuda:N, mps or cpu (default: auto)")
    group.add_argument(
        "--vram",
        metavar="GB",
        help="GiB of GPU memory that the whole process may use, a ceiling that holds; auto: what is free; max: all "
        "(default: auto; ignored on the CPU)",
    )
    group.add_argument(
        "--scenario", choices=SCENARIOS, help="force the memory switches of scenario a, b or c instead of planning"
    )
    _switch(group, "--plan", "print the memory plan, with the predicted peak and seconds of every stage, and end")
    group.add_argument(
        "--vae-slicing", action=argparse.BooleanOptionalAction, help="one picture at a time through VAEs"
    )
    group.add_argument("--vae-tiling", type=_whole, metavar="PIXELS", help="VAEs in tiles of this many pixels (lossy)")
    group.add_argument(
        "--allow-lossy", type=_names, metavar="LIST", help="lossy levers that the plan may use: tiling,flashvdm"
    )
    _switch(group, "--compile", "compile the networks: a slow first run, faster later ones")
    group.add_argument("--dtype", choices=DTYPES, help="number format (default: auto: fp16 on GPUs, fp32 on the CPU)")
    group.add_argument("--attention", choices=ATTENTION, help="attention kernel (default: auto, or ATTN_BACKEND)")
    _switch(group, "--offline", "never use the network")


def add_talk_options(parser: argparse.ArgumentParser) -> None:
    """How much the program says."""
    group = parser.add_argument_group("messages")
    _switch(group, "--quiet", "say nothing but errors; paths of results are still printed")
    _switch(group, "--verbose", "say more, and show the traceback of an error; twice: time every network", short="-v")


def _switch(group: argparse._ArgumentGroup, name: str, text: str, short: str | None = None) -> None:
    names = (short, name) if short else (name,)
    group.add_argument(*names, action="store_const", const=True, default=None, help=text)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from error


def typed_path(text: str) -> str:
    """A path as typed; an empty variable in a shell must not mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from error


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How the run as a whole goes."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--count", type=_whole, metavar="N", help="N variations with seeds counting up, and a contact sheet"
    )
    group.add_argument(
        "--keep",
        type=typed_path,
        metavar="DIR",
        help="keep the result of every stage in DIR; a later run goes on after the last good one",
    )
    group.add_argument(
        "--replay",
        type=typed_path,
        metavar="REPORT",
        help="repeat the run of this report (.json); other options change it",
    )
    _switch(group, "--accept-licence", "you have read and accept the licence of weights that must be downloaded")


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """What only makes sense for many inputs."""
    group = parser.add_argument_group("batch")
    group.add_argument(
        "--ray",
        metavar="ADDRESS",
        nargs="?",
        const="local",
        help="spread the batch over a Ray cluster: one worker a GPU; without ADDRESS on this machine (extra 'ray')",
    )
    _switch(group, "--resume", "skip inputs that an earlier batch into the same folder has finished")


def count_from(values: argparse.Namespace) -> int:
    """How many variations. Raises UsageError when it is not from 1 to 1000."""
    count = 1 if values.count is None else values.count
    if not 1 <= count <= MOST_VARIATIONS:
        raise UsageError(f"--count is {count}; it must be a whole number from 1 to {MOST_VARIATIONS}")
    return count


SHARED_GROUPS: tuple[Callable[[argparse.ArgumentParser], None], ...] = (
    add_output_options,
    add_model_options,
    add_texture_options,
    add_picture_options,
    add_machine_options,
    add_run_options,
    add_talk_options,
)


def argv_of(argv: Sequence[str] | None) -> list[str]:
    """The arguments as a list, from the process when none are given."""
    return list(sys.argv[1:] if argv is None else argv)
