"""The table of options in docs/command-line.md, written from the parsers so that it cannot go stale.

python -m tools.options_table            rewrite the table
python -m tools.options_table --check    exit 1 when it is out of date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hy3dgen.cli import color, multiview

PAGE = Path(__file__).resolve().parent.parent / "docs" / "command-line.md"
START, END = "<!-- options: made by tools/options_table.py -->", "<!-- end of options -->"


def table() -> str:
    """Markdown: one table for each group of options, with the scripts that have them."""
    scripts = {"color.py": color.make_parser(), "multiview.py": multiview.make_parser()}
    groups: dict[str, dict[str, list[str]]] = {}
    for script, parser in scripts.items():
        for group in parser._action_groups:
            for action in group._group_actions:
                if action.option_strings and action.dest not in ("help", "version"):
                    rows = groups.setdefault(group.title or "", {})
                    rows.setdefault(f"| `{_names(action)}` | {_cell(action.help or '')} |", []).append(script)
    lines: list[str] = []
    for title, rows in groups.items():
        lines += [f"### {title.capitalize()}", "", "| option | what it does |", "|---|---|"]
        for row, having in rows.items():
            only = f" ({having[0]} only)" if len(having) == 1 else ""
            lines.append(row.removesuffix(" |") + f"{only} |")
        lines.append("")
    return "\n".join(lines).strip()


def page(text: str) -> str:
    """The page with its table made anew. Raises ValueError when the marks are missing."""
    before, found, rest = text.partition(START)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{PAGE.name} lacks the marks '{START}' and '{END}'")
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Rewrite or check the page; returns the exit code."""
    parser = argparse.ArgumentParser(description="Write the table of options in docs/command-line.md.")
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when the table is out of date")
    values = parser.parse_args(argv)
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if values.check:
        if old != new:
            print("docs/command-line.md is out of date; run: python -m tools.options_table", file=sys.stderr)
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


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
