"""Carry our techniques into an upstream tree: list, check, export, apply, revert, verify, record.

    python tools/patches.py check TREE

TREE is any folder that holds hy3dgen/, under git or not. Exit codes: 0 all fit, 1 some do not, 2 usage or a damaged or
locally changed tree, 3 not an upstream tree, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USAGE, NOT_UPSTREAM, INTERRUPTED = 2, 3, 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    args = build_parser().parse_args(argv)
    # First, even if it is there already: this script's own folder, where `patches` is a file, must not come before it.
    sys.path.insert(0, str(ROOT))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # paths that the terminal's encoding cannot show
    try:
        import libcst  # noqa: F401
    except ImportError:
        print("this tool needs LibCST: pip install libcst", file=sys.stderr)
        return USAGE
    from tools.patching import commands
    from tools.patching.tree import TreeError

    try:
        return commands.run(args)
    except commands.NotUpstream as error:
        print(f"error: {error}", file=sys.stderr)
        return NOT_UPSTREAM
    except TreeError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("interrupted; if files were changed already, 'revert' undoes it", file=sys.stderr)
        return INTERRUPTED
    except (OSError, json.JSONDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="patches.py", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    verbs.add_parser("list", help="the patches, in order, with what they do")
    for verb, text in (
        ("check", "say for each patch and file: applies, already applied, or does not fit and why"),
        ("export", "write unified diffs (for git am) made from this tree"),
        ("apply", "change the tree; what is needed to undo it is kept in one hidden folder inside"),
        ("revert", "restore every file that apply changed, byte for byte"),
        ("verify", "compile every touched file and check each patch's post-conditions"),
        ("record", "note in patches/VERIFIED.json that the patches were tried on this tree"),
    ):
        command = verbs.add_parser(verb, help=text)
        command.add_argument("tree", type=Path, metavar="TREE", help="folder that holds hy3dgen/")
        if verb == "export":
            command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the diffs")
        if verb in ("apply", "revert"):
            command.add_argument("--force", action="store_true", help="also on a locally changed or unknown tree")
        if verb == "record":
            command.add_argument("--name", default=None, help="a name for the tree, such as its release")
        if verb in ("check", "export", "apply", "verify"):
            command.add_argument("--only", action="append", metavar="PATCH", help="this patch only (may be repeated)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
