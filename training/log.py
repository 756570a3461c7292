"""Figures of a run as JSON lines, one record a line, so that every published number has a source."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from hy3dgen.errors import NumericalError


class JsonLines:
    """Appends records to a file and shows them. Every record has 'kind' and 'at_s', seconds since this was opened."""

    def __init__(self, path: Path, *, show: bool = True) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._start, self._show = time.monotonic(), show

    def write(self, kind: str, **values: Any) -> None:
        """Add a record; it is in the file when this returns. Raises NumericalError when a value is NaN or
        infinite, after writing it."""
        record = {"kind": kind, "at_s": round(time.monotonic() - self._start, 2)} | _plain(values)
        line = json.dumps(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._show:
            print(line, flush=True)
        bad = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise NumericalError(
                f"{', '.join(bad)} of '{kind}' is not finite; go on from the last saved state with a lower --rate"
            )


def _plain(values: Any) -> Any:
    """Floats to five significant digits, NaN and infinities as words; JSON has neither."""
    if isinstance(values, dict):
        return {str(name): _plain(value) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_plain(value) for value in values]
    if isinstance(values, float):
        return float(f"{values:.5g}") if math.isfinite(values) else str(values)
    return values
