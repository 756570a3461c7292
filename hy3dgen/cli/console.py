"""What a user sees while it runs: one progress display for all stages, with time; plain lines when nobody watches.

Progress goes to stderr; paths of results go to stdout, so that scripts can read them.
"""

from __future__ import annotations

import sys
import traceback
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from hy3dgen.runtime.stages import StageRecord

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

STAGE_WORDS = {
    "load": "Loading the model",
    "cutout": "Cutting out the object",
    "condition": "Reading the picture",
    "denoise": "Finding the shape",
    "decode": "Evaluating the field",
    "extract": "Extracting the surface",
    "clean": "Cleaning up",
    "reduce": "Reducing faces",
    "unwrap": "Unwrapping",
    "delight": "Removing light",
    "maps": "Rendering maps",
    "views": "Painting views",
    "bake": "Baking the texture",
    "fill": "Filling unseen parts",
    "export": "Writing",
}


class Console:
    """Listener of stage records and the place for messages; use as a context manager.

    quiet: errors and result paths only. verbose: every warning at once, and each plain line with its seconds.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, error_stream: TextIO | None = None) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._stream = error_stream if error_stream is not None else sys.stderr
        self._live = not quiet and self._stream.isatty()
        self._progress: Progress | None = None
        self._bars: dict[int, TaskID] = {}
        self._records: list[StageRecord] = []  # keeps ids of records alive, since bars are found by them
        self._started = perf_counter()
        self._said: set[str] = set()

    def __enter__(self) -> Console:
        if self._live:
            self._progress = _make_progress(self._stream)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the display; messages still work."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, record: StageRecord) -> None:
        """Take one report of a stage: its start, a step, a warning or its end."""
        if self.quiet:
            return
        for warning in record.warnings:
            self.warn(warning)
        if self._progress is not None:
            self._show_bar(record)
        else:
            self._show_line(record)

    def new_item(self, words: str) -> None:
        """A new input begins: its stages start a fresh list, and the bars of the one before go."""
        if self._progress is not None:
            for bar in self._bars.values():
                self._progress.remove_task(bar)
        self._bars.clear()
        self._records.clear()
        self._said.clear()
        self.say(words)

    def say(self, words: str) -> None:
        """A line for the user; nothing when quiet."""
        if not self.quiet:
            self._write(words)

    def warn(self, words: str) -> None:
        """A warning, once for each input; nothing when quiet."""
        if words not in self._said:
            self._said.add(words)
            self.say(f"warning: {words}")

    def error(self, words: str) -> None:
        """An error line, also when quiet."""
        self._write(f"error: {words}")

    def problem(self, error: BaseException, before: str = "") -> None:
        """An error that does not end the run: one line, with the traceback when verbose."""
        if self.verbose:
            traceback.print_exception(error, file=self._stream)
        words = (str(error) or type(error).__name__).splitlines()
        self._write(f"error: {before}{words[0]}")

    def detail(self, words: str) -> None:
        """A line for those who asked for more (-v)."""
        if self.verbose:
            self._write(words)

    def result(self, words: str) -> None:
        """A path that was written: on stdout, also when quiet."""
        if self._progress is not None and sys.stdout.isatty():
            self._progress.console.print(words, markup=False, highlight=False, soft_wrap=True)
        else:
            print(words, flush=True)

    def _write(self, words: str) -> None:
        if self._progress is not None:
            self._progress.console.print(words, markup=False, highlight=False, soft_wrap=True)
        else:
            print(words, file=self._stream, flush=True)

    def _show_bar(self, record: StageRecord) -> None:
        assert self._progress is not None
        if id(record) not in self._bars:
            self._records.append(record)
            self._bars[id(record)] = self._progress.add_task(
                STAGE_WORDS.get(record.name, record.name), total=None, count=""
            )
        bar = self._bars[id(record)]
        count = f"{record.steps_done}/{record.steps_total}" if record.steps_total else ""
        if "finished" in record.figures:
            done = record.steps_total or 1
            self._progress.update(bar, total=done, completed=done, count=count)
            self._progress.stop_task(bar)
        else:
            self._progress.update(bar, total=record.steps_total, completed=record.steps_done, count=count)

    def _show_line(self, record: StageRecord) -> None:
        if "finished" not in record.figures:
            return
        elapsed_s = perf_counter() - self._started
        steps = f" ({record.steps_done} {record.unit}s)" if self.verbose and record.steps_done else ""
        self._write(f"[{elapsed_s:6.1f} s] {STAGE_WORDS.get(record.name, record.name)}: {record.seconds:.1f} s{steps}")


def _make_progress(stream: TextIO) -> Progress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]:>9}", markup=False),
        TimeElapsedColumn(),
        console=RichConsole(file=stream, highlight=False),
        refresh_per_second=8,
    )
