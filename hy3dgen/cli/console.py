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

SILENCE_S = 15.0  # on plain lines, a long stage says how far it is after this many seconds without a word
SURE_AFTER_S = 3.0  # a rest is told only when the pace is known that long


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
        self._pace = Pace()
        self._transfers: dict[str, StageRecord] = {}
        self._told: dict[str, int] = {}
        self._spoken = perf_counter()

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

    def transfer(self, name: str, done_bytes: int, total_bytes: int) -> None:
        """Tell of a download: a bar on a terminal, else a line every five per cent."""
        if self.quiet:
            return
        record = self._transfers.setdefault(name, StageRecord("load", unit="MB"))
        finished = done_bytes >= total_bytes
        record.steps_done, record.steps_total = done_bytes // 1_000_000, max(total_bytes // 1_000_000, 1)
        left = "" if finished else self._pace.left(record)
        if self._live:
            self._show_transfer(name, record, left)
            return
        percent = 100 * done_bytes // total_bytes // 5 * 5
        if percent > self._told.get(name, -1):
            self._told[name] = percent
            rest = f", about {left} left" if left else ""
            self._write(f"{name}: {percent} % of {total_bytes / 1e6:,.1f} MB{rest}")

    def _show_transfer(self, name: str, record: StageRecord, left: str) -> None:
        if self._progress is None:
            self._progress = _make_progress(self._stream)
            self._progress.start()
        bar, rest = self._bar(record, name.rsplit("/", maxsplit=1)[-1]), left and f"{left} left"
        self._progress.update(
            bar, total=record.steps_total, completed=record.steps_done, count=_count(record), left=rest
        )
        if record.steps_done == record.steps_total:
            self._progress.stop_task(bar)

    def _write(self, words: str) -> None:
        if self._progress is not None:
            self._progress.console.print(words, markup=False, highlight=False, soft_wrap=True)
        else:
            print(words, file=self._stream, flush=True)

    def _bar(self, record: StageRecord, words: str) -> TaskID:
        """The bar of a record, added at the first call."""
        assert self._progress is not None
        if id(record) not in self._bars:
            self._records.append(record)
            self._bars[id(record)] = self._progress.add_task(words, total=None, count="", left="")
        return self._bars[id(record)]

    def _show_bar(self, record: StageRecord) -> None:
        assert self._progress is not None
        bar = self._bar(record, STAGE_WORDS.get(record.name, record.name))
        count = _count(record)
        if "finished" in record.figures:
            done = record.steps_total or 1
            self._progress.update(bar, total=done, completed=done, count=count, left="")
            self._progress.stop_task(bar)
        else:
            left = self._pace.left(record)
            self._progress.update(
                bar, total=record.steps_total, completed=record.steps_done, count=count, left=left and f"{left} left"
            )

    def _show_line(self, record: StageRecord) -> None:
        now = perf_counter()
        elapsed_s = now - self._started
        if "finished" not in record.figures:
            left = self._pace.left(record)
            if record.steps_done and now - self._spoken > SILENCE_S:  # nobody should wonder whether it still works
                self._spoken = now
                rest = f", about {left} left" if left else ""
                self._write(f"[{elapsed_s:6.1f} s] {STAGE_WORDS.get(record.name, record.name)}: {_count(record)}{rest}")
            return
        self._spoken = now
        steps = f" ({record.steps_done} {record.unit}s)" if self.verbose and record.steps_done else ""
        self._write(f"[{elapsed_s:6.1f} s] {STAGE_WORDS.get(record.name, record.name)}: {record.seconds:.1f} s{steps}")


class Pace:
    """How long a stage still takes, from how fast its steps have gone so far."""

    def __init__(self) -> None:
        self._key: tuple[int, str] | None = None
        self._first = (0.0, 0)

    def left(self, record: StageRecord, now: float | None = None) -> str:
        """Words such as '40 s' or '3 min'; '' while it cannot be told. now: seconds of a steady clock."""
        now = perf_counter() if now is None else now
        key = (id(record), record.unit)
        if key != self._key or record.steps_done < self._first[1]:
            # The first step warms things up, so the pace is taken from its end.
            self._key, self._first = key, (now, max(record.steps_done, 1))
        since, steps = now - self._first[0], record.steps_done - self._first[1]
        if not record.steps_total or steps < 1 or since < SURE_AFTER_S:
            return ""
        return rest_words(since / steps * (record.steps_total - record.steps_done))


def rest_words(seconds: float) -> str:
    """A duration as people say it: '40 s', '3 min', '1.5 h'."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _count(record: StageRecord) -> str:
    unit = " MB" if record.unit == "MB" else ""
    if record.steps_total:
        return f"{record.steps_done}/{record.steps_total}{unit}"
    return f"{record.steps_done}{unit}" if record.steps_done else ""


def _make_progress(stream: TextIO) -> Progress:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[count]:>13}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=RichConsole(file=stream, highlight=False),
        refresh_per_second=8,
    )
