"""``gradio_app.py``: the web page, and the REST API that it uses, from one server.

The script and its flags have the reference's names, so that its users' commands keep working; the page itself is ours
and needs no Gradio (docs/web-page.md says why).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import hy3dgen
from hy3dgen.cli import options as groups
from hy3dgen.cli.console import Console
from hy3dgen.cli.program import run_program
from hy3dgen.cli.serving import SERVING_GROUPS, add_address_options, serve
from hy3dgen.errors import UsageError

PAGE_PORT = 8080  # the reference's
PAGE = Path(hy3dgen.__file__).parent / "service" / "page"
TEXT2IMAGE_HINT = "text needs the text-to-image weights; without them the page says what is missing"


def add_reference_options(parser: argparse.ArgumentParser) -> None:
    """Flags of the reference that our servers have no name of their own for."""
    group = parser.add_argument_group("flags of the reference")
    group.add_argument(
        "--mc_algo", "--mc-algo", choices=("mc", "dmc"), help="surface extraction; servers use mc whatever is given"
    )
    groups._switch(group, "--disable_tex", "make bare shapes only; the same as --no-enable_tex")
    groups._switch(group, "--enable_flashvdm", "decode with FlashVDM unless a request says otherwise: faster, lossy")
    groups._switch(group, "--enable_t23d", "words as input; on anyway wherever the weights for it are")
    groups._switch(group, "--low_vram_mode", "nothing to switch on: every run keeps to --vram")


def make_parser() -> groups.Parser:
    """The parser of gradio_app.py."""
    text = "Serve the web page: pictures in, textured 3D meshes out. docs/web-page.md describes it."
    own = [
        partial(add_address_options, port=PAGE_PORT) if add is add_address_options else add for add in SERVING_GROUPS
    ]
    return groups.make_parser("gradio_app.py", text, (*own, add_reference_options, groups.add_talk_options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run gradio_app.py with ``argv``; returns the exit code."""
    return run_program(make_parser, _work, argv)


def _work(values: argparse.Namespace, console: Console, argv: list[str]) -> int:
    if values.mc_algo == "dmc":
        console.say("--mc_algo dmc: surfaces are extracted with mc here, which needs no compiled package")
    if values.disable_tex:
        if values.enable_tex:
            raise UsageError("--enable_tex and --disable_tex contradict each other; give one of them")
        values.enable_tex = False
    if values.enable_t23d:
        console.say(TEXT2IMAGE_HINT)
    decoder = "flashvdm" if values.enable_flashvdm else None
    return serve(values, console, page=PAGE, port=PAGE_PORT, decoder=decoder)
