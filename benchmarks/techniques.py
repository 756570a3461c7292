"""docs/techniques.md from figures: python -m benchmarks.techniques [--check]

Predictions of the memo and measurements on the reference come from memo.json, predictions of the planner from the
package's cost data, measurements of this package from results/memory.json. What was not measured says 'not run'.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hy3dgen.errors import NoPlanError
from hy3dgen.runtime.costs import PaintWork, ShapeWork, Work, activation_data, known_sizes, stage_costs
from hy3dgen.runtime.machine import make_machine
from hy3dgen.runtime.plan import GIB, Plan, make_plan

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "techniques.md"
MEMO = ROOT / "benchmarks" / "memo.json"
MEASURED = ROOT / "benchmarks" / "results" / "memory.json"
NOT_RUN = "not run"
TIERS: tuple[float | str, ...] = (1.5, 2, 3, 4, 6, 8, "max")
# The machine of the cost data, and one with little host memory beside it.
DEVICE_GIB, HOST_GIB = 139, 64

Run = dict[str, Any]


def page(memo: dict[str, Any], runs: Sequence[Run], machine: dict[str, Any]) -> str:
    """The whole page."""
    where = machine.get("device")
    parts = [
        "# Memory techniques: predicted and measured",
        "Written by `python -m benchmarks.techniques` from `benchmarks/memo.json`, `hy3dgen/assets/activations.json` "
        "and `benchmarks/results/memory.json`; change those, not this page.",
        f"Figures of this package were taken on {where}."
        if where and runs
        else "No run of this package has been measured on a GPU yet: its figures say 'not run'. Take them with "
        "`python -m benchmarks.memory`.",
        "## The memo's techniques",
        _techniques(memo, runs),
        "'Reference' figures were measured on the implementation that the memo is about, not on this package. A "
        "scenario switches several techniques at once, so its row below is the measurement of each of them.",
        "## Scenarios",
        _scenarios(memo, runs),
        "Scenarios force their switches as the memo writes them, also where they hurt: `--scenario a|b|c`.",
        "## Ceilings",
        _ceilings(runs),
        _sources(),
    ]
    return "\n\n".join(parts) + "\n"


def predicted(vram: float | str) -> Plan | None:
    """The planner's plan for the run that the benchmark makes, on the machine of the cost data; None when none fits."""
    machine = make_machine("cuda", DEVICE_GIB * GIB, DEVICE_GIB * GIB, "datacentre", HOST_GIB * GIB)
    sizes = known_sizes("2")
    shape = ShapeWork(sizes, sizes["model"].weight_bytes // 2, 3072 + 1370, 50, True, 384, "hierarchical")
    paint = PaintWork({**known_sizes("paint"), **known_sizes("delight")}, 30, True, 50)
    ceiling = DEVICE_GIB * GIB if vram == "max" else round(float(vram) * GIB)
    try:
        return make_plan(ceiling, machine, stage_costs(Work(shape, paint, 2048)))
    except NoPlanError:
        return None


def run_of(runs: Sequence[Run], vram: float | str, scenario: str | None) -> Run | None:
    """The measured run of this ceiling and scenario, at full size."""
    return next((r for r in runs if r["vram_gb"] == vram and r["scenario"] == scenario and r["model"] == "2"), None)


def _techniques(memo: dict[str, Any], runs: Sequence[Run]) -> str:
    rows = ["| # | technique | memo's prediction | switch | what this package does | reference | measured here |"]
    rows.append("|---|---|---|---|---|---|---|")
    for t in memo["techniques"]:
        measured = "-"
        if t["measure"]:
            scenario = t["measure"].split()[1]
            measured = t["measure"] if run_of(runs, "max", scenario) else NOT_RUN
        switch = ", ".join(f"`{_cell(part)}`" for part in t["switch"].split(", ")) if t["switch"] != "none" else "none"
        cells = (t["number"], t["name"], t["prediction"], switch, t["decision"], t["reference"] or "-", measured)
        rows.append(_row(cells))
    return "\n".join(rows)


def _scenarios(memo: dict[str, Any], runs: Sequence[Run]) -> str:
    rows = ["| scenario | techniques | memo: GB | memo: s | measured: reserved GiB | measured: device GiB | GPU s |"]
    rows.append("|---|---|--:|--:|--:|--:|--:|")
    for s in memo["scenarios"]:
        run = run_of(runs, *s["run"])
        rows.append(_row((s["name"], s["switches"], s["gb"], s["seconds"], *_figures(run))))
    return "\n".join(rows)


def _ceilings(runs: Sequence[Run]) -> str:
    heads = ("ceiling", "predicted peak GiB", "predicted s", "reserved GiB", "device GiB", "GPU s", "held", "equal")
    rows = [_row(heads), "|---|" + "--:|" * 5 + "---|---|"]
    for vram in TIERS:
        plan, run = predicted(vram), run_of(runs, vram, None)
        judged = [NOT_RUN if run is None or run[k] is None else _yes(run[k]) for k in ("held", "equal_to_resident")]
        foreseen = (
            ("no plan", "-")
            if plan is None
            else (f"{plan.predicted_peak_bytes / GIB:.2f}", f"{plan.predicted_seconds:.1f}")
        )
        rows.append(_row((f"--vram {vram}", *foreseen, *_figures(run), *judged)))
    return "\n".join(rows)


def _figures(run: Run | None) -> tuple[str, str, str]:
    """Reserved GiB, device GiB and GPU seconds of a run."""
    if run is None:
        return NOT_RUN, NOT_RUN, NOT_RUN
    if not run["completed"]:
        return "failed", "failed", "failed"
    reserved, device = run["peak_reserved_mb"], run["peak_device_mb"]
    return (
        NOT_RUN if not reserved else f"{reserved / 1024:.2f}",
        NOT_RUN if not device else f"{device / 1024:.2f}",
        f"{run['gpu_seconds']:.1f}",
    )


def _sources() -> str:
    data = activation_data()
    yardstick = data["yardstick"]
    return (
        f"Predictions are for an H200 with the full-size v2-0 (50 steps with guidance), delight (50) and paint (30), "
        f"octree 384, 2048² texture; the CUDA context ({data['machine']['context_mb']} MiB) is part of the "
        f"peak. The reference's stages take {yardstick['gpu_seconds']} s there with everything resident and reserve "
        f"{yardstick['reserved_gb']} GB. {data['about']}"
    )


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(_cell(str(cell)) for cell in cells) + " |"


def _cell(words: str) -> str:
    return words.replace("\\|", "|").replace("|", "\\|")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def current_page() -> str:
    """The page as it should stand now."""
    memo = json.loads(MEMO.read_text(encoding="utf-8"))
    results = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else {"machine": {}, "runs": []}
    return page(memo, results["runs"], results["machine"])


def main(argv: list[str] | None = None) -> int:
    """Write the page, or check it; 1 when it is old."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.techniques")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is old")
    if parser.parse_args(argv).check:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == current_page():
            return 0
        print("docs/techniques.md is old; write it with: python -m benchmarks.techniques", file=sys.stderr)
        return 1
    PAGE.write_text(current_page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
