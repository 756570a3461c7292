"""The table at the end of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hy3dgen.jobs.batch import Outcome

LONGEST_NAME, LONGEST_WORDS = 36, 60


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """One line a task, with its end, seconds, faces and error; then the counts."""
    lines = [f"{'input':<{LONGEST_NAME}}  {'end':<9}  {'seconds':>7}  {'faces':>7}  result"]
    lines += [_line(outcome) for outcome in outcomes]
    ends = [outcome.status for outcome in outcomes]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in ("done", "skipped", "failed", "cancelled") if end in ends)
    return "\n".join([*lines, f"{len(outcomes)} in all: {counts}" if outcomes else "nothing to do"])


def _line(outcome: Outcome) -> str:
    name = (outcome.task.folder / outcome.task.name).as_posix()
    faces = outcome.report.get("mesh", {}).get("faces", "")
    words = str(outcome.error).splitlines()[0] if outcome.error is not None and str(outcome.error) else ""
    result = _cut(words, LONGEST_WORDS) if outcome.error is not None else next(iter(outcome.outputs), "")
    start = f"{_cut(name, LONGEST_NAME):<{LONGEST_NAME}}  {outcome.status:<9}  {outcome.seconds:>7.1f}"
    return f"{start}  {faces!s:>7}  {result}"


def _cut(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"
