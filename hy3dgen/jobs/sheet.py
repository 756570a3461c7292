"""Contact sheets: the previews of all variations of one input in one picture, each with its seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageDraw

from hy3dgen.jobs.output import Outputs, safe_stem
from hy3dgen.jobs.result import Result, encode_picture
from hy3dgen.jobs.task import Task
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


class Sheets:
    """Collects previews of variations by input and writes one sheet for each; does nothing for single results."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._previews: dict[tuple[PurePath, str], list[tuple[str, np.ndarray]]] = {}

    def add(self, task: Task, result: Result | None) -> None:
        """Remember a variation's preview."""
        if self._count > 1 and result is not None and result.preview is not None and task.seed is not None:
            stem = task.name.removesuffix(f"_seed{task.seed}")
            self._previews.setdefault((task.folder, stem), []).append((f"seed {task.seed}", result.preview))

    def write(self, outputs: Outputs) -> list[Path]:
        """Write NAME_sheet.png for each input, beside its results; returns the paths. Raises OutputError."""
        written = []
        for (folder, stem), previews in self._previews.items():
            path = outputs.free_path(folder / f"{safe_stem(stem)}_sheet.png")
            write_atomic(path, encode_picture(contact_sheet(previews)))
            written.append(path)
        return written
