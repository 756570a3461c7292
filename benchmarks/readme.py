"""The tables in README.md, written from the committed figures: python -m benchmarks.readme [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. `--check` changes nothing and fails when one is old.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def quality_table(figures: dict[str, Any]) -> str:
    """How close nano comes to known shapes, real meshes and the outline of pictures."""
    rows = ["| measured on | volume IoU | chamfer (longest side 1.9) | number |", "|---|--:|--:|--:|"]
    for key, name in (("procedural", "procedural shapes it has not seen"), ("outside", "meshes outside its generator")):
        part = figures.get(key) or {}
        if part.get("count"):
            rows.append(f"| {name} | {part['iou']:.3f} | {part['chamfer']:.3f} | {part['count']} |")
    pictures = figures.get("pictures") or {}
    if pictures.get("count"):
        texture = figures["texture"]["front_colour_error"]
        rows += [
            "",
            f"Outline of the result against the picture ({pictures['count']} pictures): silhouette IoU "
            f"{pictures['silhouette_iou']:.3f}, colour error seen from the front {texture:.3f} (0 to 1), floating "
            f"pieces left {100 * pictures['floating_share']:.2f} % of the surface.",
        ]
    return "\n".join(rows) + "\n"


def memory_table(figures: dict[str, Any]) -> str:
    """What whole runs took of the device under each ceiling."""
    rows = ["| ceiling | device GiB | GPU stages s | held | equal to resident |", "|---|--:|--:|---|---|"]
    for run in sorted(figures["runs"], key=lambda run: (run["vram_gb"] == "max", run["vram_gb"])):
        if run["scenario"] is None and run["completed"]:
            held, equal = ("yes" if run[name] else "no" for name in ("held", "equal_to_resident"))
            device = run["peak_device_mb"] / 1024
            rows.append(f"| `--vram {run['vram_gb']:g}`" if run["vram_gb"] != "max" else "| `--vram max`")
            rows[-1] += f" | {device:.2f} | {run['gpu_seconds']:.1f} | {held} | {equal} |"
    return "\n".join(rows) + "\n"


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "quality": ("quality.json", quality_table),
    "memory": ("memory.json", memory_table),
}


def rewritten(text: str) -> str:
    """The page with every table made afresh. Raises KeyError for a table nobody makes."""

    def block(match: re.Match[str]) -> str:
        file, write = TABLES[match.group(2)]
        return match.group(1) + write(json.loads((RESULTS / file).read_text(encoding="utf-8"))) + match.group(3)

    return BLOCK.sub(block, text)


def main(argv: list[str] | None = None) -> int:
    """Write the tables, or check them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.readme", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a table is old")
    args = parser.parse_args(argv)
    old = False
    for page in (ROOT / "README.md", ROOT / "README.ko.md"):
        if page.exists():
            text = page.read_text(encoding="utf-8")
            new = rewritten(text)
            old |= new != text
            if not args.check:
                page.write_text(new, encoding="utf-8")
    return int(args.check and old)


if __name__ == "__main__":
    sys.exit(main())
