"""What a patch is, and what it does to a tree held in memory."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tools.patching.syntax import DoesNotFit, Source
from tools.patching.tree import Tree, Unsafe, digest, parse

ROOT = Path(__file__).resolve().parents[2]
HEAD_FIELDS = ("Description", "Origin", "Applies-To", "Forwarded", "Last-Update")
APPLIES, ALREADY, NO_FIT = "applies", "already applied", "does not fit"


@dataclass(frozen=True)
class Place:
    """One edit of one file.

    edit: changes the source, or raises DoesNotFit
    broken: the post-condition: None when the technique is in the file, else what is missing; it also tells whether
        the edit has been made already, so it must ask for what the edit adds
    """

    file: str
    edit: Callable[[Source], None]
    broken: Callable[[Source], str | None]


@dataclass(frozen=True)
class Patch:
    """One technique: its name in the series, its head and its places."""

    name: str
    head: dict[str, str]
    places: tuple[Place, ...]


@dataclass
class Finding:
    """What one patch does to one file: a state of APPLIES, ALREADY, NO_FIT and, where known, why and the line."""

    patch: str
    file: str
    state: str
    why: str = ""
    line: int | None = None


@dataclass
class Work:
    """The files of a tree, changed in memory only."""

    tree: Tree
    before: dict[str, bytes] = field(default_factory=dict)
    now: dict[str, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    lines: bool = False  # whether findings tell the line, which takes as long as the edits

    def read(self, name: str) -> bytes:
        if name not in self.now:
            self.before[name] = self.now[name] = self.tree.read(name)
        return self.now[name]

    def changed(self) -> dict[str, bytes]:
        return {name: data for name, data in self.now.items() if data != self.before[name]}

    def run(self, patch: Patch) -> list[Finding]:
        """Apply one patch in memory; each place on its own."""
        found = [self._place(patch, place) for place in patch.places]
        self.findings += found
        return found

    def _place(self, patch: Patch, place: Place) -> Finding:
        finding = Finding(patch.name, place.file, NO_FIT)
        try:
            source = Source(parse(place.file, self.read(place.file)))
            if _condition(place, source) is None:
                finding.state = ALREADY
                return finding
            place.edit(source)
            data = source.module.bytes
            broken = _condition(place, Source(parse(place.file, data)))
            if broken:
                raise DoesNotFit(f"the edit does not take: {broken}")
            if self.lines:
                finding.line = self._line(place.file, source.line())
            self.now[place.file] = data
            finding.state = APPLIES
        except DoesNotFit as error:
            finding.why = str(error)
        except Unsafe as error:
            finding.why = f"refused: {error}"
        except RecursionError:
            finding.why = f"{place.file} is nested too deeply to be edited"
        except Exception as error:  # noqa: BLE001 - code of unknown shape: a patch that stumbles must not stop the rest
            finding.why = f"the patch cannot read this code ({type(error).__name__}: {error}); please report it"
        return finding

    def _line(self, name: str, line: int | None) -> int | None:
        """A line of a file as edited so far, as the line of the file on disk that it stands at or behind."""
        if line is None or self.now[name] == self.before[name]:
            return line
        old, new = (data.splitlines() for data in (self.before[name], self.now[name]))
        for _, old_from, old_to, new_from, new_to in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
            if new_from < line <= new_to:
                return max(1, min(old_from + line - new_from, old_to))
        return line


def _condition(place: Place, source: Source) -> str | None:
    try:
        return place.broken(source)
    except DoesNotFit as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - as in Work._place
        return f"the patch cannot read this code ({type(error).__name__}: {error}); please report it"


def series(folder: Path = ROOT / "patches") -> list[str]:
    """Names of the patches, in order, from the series file ('#' starts a comment)."""
    lines = (folder / "series").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def load(name: str) -> Patch:
    """One patch module of `patches/`."""
    module = importlib.import_module(f"patches.{name}")
    return Patch(name, read_head(module.__doc__ or ""), tuple(module.PLACES))


def load_all() -> list[Patch]:
    return [load(name) for name in series()]


def read_head(text: str) -> dict[str, str]:
    """DEP-3 style fields of a module docstring; continuation lines start with a space."""
    head: dict[str, str] = {}
    last = None
    for line in text.strip().splitlines():
        match = re.match(r"([A-Z][A-Za-z-]+): (.*)", line)
        if match:
            last = match.group(1)
            head[last] = match.group(2).strip()
        elif last and line.startswith(" "):
            head[last] += " " + line.strip()
        else:
            last = None
    return head


def run_all(tree: Tree, patches: Iterable[Patch], *, lines: bool = False) -> Work:
    """Apply patches in order, in memory; with ``lines``, findings tell where."""
    work = Work(tree, lines=lines)
    for patch in patches:
        work.run(patch)
    return work


def verify(tree: Tree, patches: Iterable[Patch]) -> Iterator[tuple[str, str, str | None]]:
    """For every place of every patch: (patch, file, None or what is wrong with the file as it is on disk)."""
    for patch in patches:
        for place in patch.places:
            try:
                wrong = _condition(place, Source(parse(place.file, tree.read(place.file))))
            except (DoesNotFit, Unsafe) as error:
                wrong = str(error)
            yield patch.name, place.file, wrong


def hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {name: digest(data) for name, data in sorted(files.items())}
