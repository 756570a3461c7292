"""The tables of options in docs/, written from the parsers so that they cannot go stale.

python -m tools.options_table            rewrite the tables
python -m tools.options_table --check    exit 1 when one is out of date
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from hy3dgen.cli import api_server, color, multiview

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "command-line.md"
Scripts = Mapping[str, Callable[[], argparse.ArgumentParser]]
SCRIPTS: Scripts = {"color.py": color.make_parser, "multiview.py": multiview.make_parser}
PAGES: dict[Path, Scripts] = {PAGE: SCRIPTS, DOCS / "rest-api.md": {"api_server.py": api_server.make_parser}}
START, END = "<!-- options: made by tools/options_table.py -->", "<!-- end of options -->"


def table(scripts: Scripts = SCRIPTS) -> str:
    """Markdown: one table for each group of options, with the scripts that have them when not all do."""
    groups: dict[str, dict[str, list[str]]] = {}
    for script, make_parser in scripts.items():
        for group in make_parser()._action_groups:
            for action in group._group_actions:
                if action.option_strings and action.dest not in ("help", "version"):
                    rows = groups.setdefault(group.title or "", {})
                    rows.setdefault(f"| `{_names(action)}` | {_cell(action.help or '')} |", []).append(script)
    lines: list[str] = []
    for title, rows in groups.items():
        lines += [f"### {title.capitalize()}", "", "| option | what it does |", "|---|---|"]
        for row, having in rows.items():
            only = f" ({having[0]} only)" if len(having) < len(scripts) else ""
            lines.append(row.removesuffix(" |") + f"{only} |")
        lines.append("")
    return "\n".join(lines).strip()


def page(text: str, scripts: Scripts = SCRIPTS) -> str:
    """A page with its table made anew. Raises ValueError when the marks are missing."""
    before, found, rest = text.partition(START)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"a page lacks the marks '{START}' and '{END}'")
    return f"{before}{START}\n\n{table(scripts)}\n\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Rewrite or check the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the tables of options in docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when the table is out of date")
    values = parser.parse_args(argv)
    stale = []
    for path, scripts in PAGES.items():
        old = path.read_text(encoding="utf-8")
        new = page(old, scripts)
        if old != new:
            stale.append(path.name)
        if not values.check:
            path.write_text(new, encoding="utf-8")
    if values.check and stale:
        print(f"{', '.join(stale)}: out of date; run: python -m tools.options_table", file=sys.stderr)
    return int(bool(values.check and stale))


def _names(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    if action.nargs == 0:
        return names
    value = "\\|".join(map(str, action.choices)) if action.choices else str(action.metavar or "VALUE")
    return f"{names} {value}" if action.nargs != "?" else f"{names} [{value}]"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
