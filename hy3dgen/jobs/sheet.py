"""Contact sheets: the previews of all variations of one input in one picture, each with its seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageDraw

from hy3dgen.jobs.batch import Outcome
from hy3dgen.jobs.output import Outputs, safe_stem
from hy3dgen.jobs.result import Result, encode_picture
from hy3dgen.runtime.files import write_atomic

CELL_PX = 320
LABEL_PX = 22


def contact_sheet(pictures: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Pictures in rows, near a square, each under its label.

    pictures: (label, (height, width, 3) uint8) each; at least one
    Returns (height, width, 3) uint8, white where there is nothing.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (columns * CELL_PX, rows * (CELL_PX + LABEL_PX)), "white")
    pen = ImageDraw.Draw(sheet)
    for index, (label, pixels) in enumerate(pictures):
        left, top = index % columns * CELL_PX, index // columns * (CELL_PX + LABEL_PX)
        pen.text((left + 6, top + 5), label, fill="black")
        small = Image.fromarray(pixels).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        sheet.paste(small, (left, top + LABEL_PX))
    return np.asarray(sheet)


@dataclass
class _Group:
    """The variations of one input: where they lie, what they are called, and their previews by seed."""

    folder: PurePath
    stem: str
    previews: dict[int, np.ndarray] = field(default_factory=dict)
    is_new: bool = False


class Sheets:
    """Collects previews of variations by input and writes one sheet for each; does nothing for single results."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._groups: dict[int, _Group] = {}

    def add(self, outcome: Outcome, result: Result | None) -> None:
        """Remember a variation's preview: from ``result`` when it was made here, else from its file."""
        task = outcome.task
        if self._count == 1 or task.seed is None or task.variation_of is None:
            return
        preview = result.preview if result is not None else _read(outcome.preview)
        if preview is None:
            return
        stem = task.name.removesuffix(f"_seed{task.seed}")
        group = self._groups.setdefault(task.variation_of, _Group(task.folder, stem))
        group.previews[task.seed] = preview
        group.is_new |= outcome.status == "done"

    def write(self, outputs: Outputs) -> list[Path]:
        """Write NAME_sheet.png for each input with a new variation, beside its results; returns the paths.

        Raises OutputError.
        """
        written = []
        for group in (self._groups[index] for index in sorted(self._groups)):
            if not group.is_new:
                continue
            path = outputs.free_path(group.folder / f"{safe_stem(group.stem)}_sheet.png")
            pictures = [(f"seed {seed}", group.previews[seed]) for seed in sorted(group.previews)]
            write_atomic(path, encode_picture(contact_sheet(pictures)))
            written.append(path)
        return written


def _read(path: str | None) -> np.ndarray | None:
    """A preview from its file; None when there is none that can be read."""
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError):
        return None
