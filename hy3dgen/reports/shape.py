"""Whether what was read as a report has the shape of one: a file that was cut or edited by hand should be told.

Only the parts that ``reports.text`` and a replay read; docs/report.schema.json describes the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBER, _TEXT, _FLAG = (int, float), (str,), (bool,)
_TECHNIQUE = {"technique": _TEXT, "applied": _FLAG, "why": _TEXT}
# A dict has these keys, those that end in '?' may be missing or null; a list has items of its one shape.
_REPORT: Mapping[str, Any] = {
    "options?": {},
    "compute?": {},
    "machine?": {},
    "command?": [_TEXT],
    "name?": _TEXT,
    "folder?": _TEXT,
    "inputs?": [{"role": _TEXT, "sha256": _TEXT, "path?": _TEXT}],
    "stages?": [
        {
            "name": _TEXT,
            "seconds": _NUMBER,
            "peak_allocated_mb": _NUMBER,
            "peak_reserved_mb": _NUMBER,
            "steps?": _NUMBER,
            "unit?": _TEXT,
            "levers?": [_TEXT],
            "techniques?": [_TECHNIQUE],
        }
    ],
    "techniques?": [_TECHNIQUE],
    "warnings?": [_TEXT],
    "mesh?": {
        "faces?": _NUMBER,
        "vertices?": _NUMBER,
        "coverage?": {"seen?": _NUMBER, "blended?": _NUMBER, "filled?": _NUMBER},
    },
    "outputs?": [{"role": _TEXT, "path": _TEXT, "size_bytes": _NUMBER}],
    "seconds?": _NUMBER,
    "peak_host_mb?": _NUMBER,
}


def wrong_part(report: Mapping[str, Any]) -> str | None:
    """The name of the first part that is not what a run writes; None when all are as they should be."""
    for name, wanted in _REPORT.items():
        if not _fits(report, {name: wanted}):
            return name.rstrip("?")
    return None


def _fits(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return isinstance(value, list) and all(_fits(item, wanted[0]) for item in value)
    if isinstance(wanted, dict):
        return isinstance(value, Mapping) and all(_has(value, name, shape) for name, shape in wanted.items())
    return isinstance(value, wanted) and (bool in wanted or not isinstance(value, bool))


def _has(value: Mapping[str, Any], name: str, wanted: Any) -> bool:
    item = value.get(name.rstrip("?"))
    return name.endswith("?") if item is None else _fits(item, wanted)
