"""What a patch is, and what it does to a tree held in memory."""

from __future__ import annotations

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
            parse(place.file, data)
            broken = _condition(place, Source(parse(place.file, data)))
            if broken:
                raise DoesNotFit(f"the edit does not take: {broken}")
            finding.line = source.line()
            self.now[place.file] = data
            finding.state = APPLIES
        except DoesNotFit as error:
            finding.why = str(error)
        except Unsafe as error:
            finding.why = f"refused: {error}"
        except RecursionError:
            finding.why = f"{place.file} is nested too deeply to be edited"
        return finding


def _condition(place: Place, source: Source) -> str | None:
    try:
        return place.broken(source)
    except DoesNotFit as error:
        return str(error)


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


def run_all(tree: Tree, patches: Iterable[Patch]) -> Work:
    """Apply patches in order, in memory."""
    work = Work(tree)
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
