"""Which files a task writes, and writing them: never over something else unless asked, and whole or not at all."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from hy3dgen.errors import OutputError, UsageError
from hy3dgen.jobs.task import Task
from hy3dgen.reports.run import OutputFile
from hy3dgen.runtime.files import ensure_writable, sha256_of_bytes, write_atomic

MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl")
DEFAULT_FOLDER = Path("output")
NEEDED_BYTES = 64_000_000  # a 2048 px texture, 40 000 faces, preview and report, with room to spare
LONGEST_NAME, LONGEST_NAME_BYTES = 120, 200  # file systems stop at 255 bytes; endings and numbers come on top
_DEVICES_OF_WINDOWS = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


@dataclass(frozen=True)
class Target:
    """The files of one task; None: not written."""

    mesh: Path
    preview: Path | None
    report: Path | None

    def paths(self) -> list[Path]:
        """Every path that may be written; an OBJ brings material and texture, named as meshes.io names them."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in self.mesh.stem)
        sides = (f"{safe}.mtl", f"{safe}_texture.png") if self.mesh.suffix == ".obj" else ()
        companions = [self.mesh.with_name(name) for name in sides]
        return [p for p in (self.mesh, *companions, self.preview, self.report) if p is not None]


@dataclass
class Outputs:
    """Chooses names for the tasks of one run, so that no two tasks and no earlier run share a file.

    output: what the user gave: a file with a mesh's ending, a folder, or None for output/
    many: several results are expected, so ``output`` must be a folder
    preview, report: explicit paths, allowed for a single result only
    """

    output: Path | None = None
    many: bool = False
    overwrite: bool = False
    preview: Path | None = None
    report: Path | None = None
    with_preview: bool = True
    with_report: bool = True
    suffix: str = ".glb"
    _taken: set[str] = field(default_factory=set)
    _inputs: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.many and (self.preview is not None or self.report is not None):
            raise UsageError("--preview and --report name one file, but several results are asked for; leave them out")
        if self.preview is not None and self.preview.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise UsageError(f"--preview is '{self.preview}'; its name must end in .png, .jpg or .webp")
        if self.output is None:
            return
        ending = self.output.suffix.lower()
        self._is_file = ending in MESH_SUFFIXES and not self.output.is_dir()
        if self._is_file and self.many:
            raise UsageError(f"--output is the file '{self.output}', but several results are asked for; give a folder")
        if ending and not self._is_file and not self.output.is_dir() and _looks_like_a_file(ending):
            raise UsageError(f"--output is '{self.output}'; a mesh's name must end in {', '.join(MESH_SUFFIXES)}")

    _is_file: bool = False

    def protect(self, inputs: Iterable[Path]) -> None:
        """Never write over these files, not even when overwriting is on.

        Raises UsageError when the user named one of them as a file to write.
        """
        self._inputs.update(identity for path in inputs if (identity := _identity(path)) is not None)
        named = {"--preview": self.preview, "--report": self.report}
        if self.overwrite and self._is_file:
            named["--output"] = self.output
        for option, path in named.items():
            if path is not None and self._is_input(path):
                raise UsageError(f"{option} is '{path}', which is an input of this run; give another name")

    def check(self) -> None:
        """Make the folders and raise OutputError now rather than after the work when the folders cannot be written."""
        folders = {self._folder()} | {p.parent for p in (self.preview, self.report) if p is not None}
        for folder in sorted(folders):
            ensure_writable(folder, needed_bytes=NEEDED_BYTES)
        for path in (self.output if self._is_file else None, self.preview, self.report):
            if path is not None and path.is_dir():
                raise OutputError(f"'{path}' is a folder; give the name of a file")

    def target(self, task: Task) -> Target:
        """The files of ``task``; an existing or already promised name gets a number, unless overwriting is on."""
        if self._is_file and self.output is not None:
            base, suffix = self.output.with_suffix(""), self.output.suffix.lower()
        else:
            base, suffix = self._folder() / task.folder / safe_stem(task.name), self.suffix
        for number in itertools.count(1):
            target = self._named(base if number == 1 else base.with_name(f"{base.name}-{number}"), suffix)
            _ensure_distinct(target)
            if self._is_free(target):
                self.reserve(target.paths())
                return target
        raise AssertionError("unreachable: count() does not end")

    def reserve(self, paths: Iterable[Path]) -> None:
        """Promise these names to somebody, so that no task of this run gets them, not even with overwriting on."""
        self._taken.update(_same_on_every_disk(path) for path in paths)

    def folder(self) -> Path:
        """Where things of the whole run go: the contact sheet, the list of a batch."""
        return self._folder()

    def free_path(self, path: PurePath) -> Path:
        """A name in the output folder for one more file of the run, numbered as ``target`` does."""
        base = self._folder() / path
        for number in itertools.count(1):
            candidate = base if number == 1 else base.with_name(f"{base.stem}-{number}{base.suffix}")
            if _same_on_every_disk(candidate) not in self._taken and not self._in_the_way(candidate):
                self.reserve([candidate])
                return candidate
        raise AssertionError("unreachable: count() does not end")

    def _named(self, base: Path, suffix: str) -> Target:
        preview = self.preview or base.with_name(base.name + ".png")
        report = self.report or base.with_name(base.name + ".json")
        return Target(
            mesh=base.with_name(base.name + suffix),
            preview=preview if self.with_preview else None,
            report=report if self.with_report else None,
        )

    def _is_free(self, target: Target) -> bool:
        # A path that the user named is written under that name; a number would only surprise.
        named = {self.preview, self.report}
        paths = [p for p in target.paths() if p not in named]
        if any(_same_on_every_disk(path) in self._taken for path in paths):
            return False
        return not any(self._in_the_way(path) for path in paths)

    def _in_the_way(self, path: Path) -> bool:
        return path.exists() and (not self.overwrite or self._is_input(path))

    def _is_input(self, path: Path) -> bool:
        return _identity(path) in self._inputs

    def _folder(self) -> Path:
        if self.output is None:
            return DEFAULT_FOLDER
        return self.output.parent if self._is_file else self.output


def write_files(files: Mapping[Path, tuple[str, bytes]]) -> list[OutputFile]:
    """Write ``files`` (path -> role and content), each whole or not at all; returns what a report says of them."""
    written = []
    for path, (role, content) in files.items():
        write_atomic(path, content)
        written.append(OutputFile(role, str(path), sha256_of_bytes(content), len(content)))
    return written


def safe_stem(name: str) -> str:
    """A name that every file system takes: no separators, control or reserved characters, not too long, not empty."""
    kept = "".join("_" if c in '<>:"/\\|?*' or ord(c) < 32 else c for c in name).strip(" .")[:LONGEST_NAME]
    while len(kept.encode("utf-8", errors="replace")) > LONGEST_NAME_BYTES:
        kept = kept[:-1]
    if kept.split(".")[0].upper() in _DEVICES_OF_WINDOWS:
        kept = f"_{kept}"
    return kept.rstrip(" .") or "mesh"


def _same_on_every_disk(path: Path) -> str:
    """The path as disks compare it that ignore case or spell accents in another way (Windows, macOS)."""
    return unicodedata.normalize("NFC", str(path.absolute())).casefold()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file, the same by whatever name, link or letter case it was reached; None: not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _ensure_distinct(target: Target) -> None:
    """Raise UsageError when two files of a result would have one name."""
    seen: set[Path] = set()
    for path in target.paths():
        place = path.absolute()
        if place in seen:
            raise UsageError(f"two files of the result would be '{path}'; choose other names for them")
        seen.add(place)


def _looks_like_a_file(ending: str) -> bool:
    """True for endings that people give to files; a folder called 'v1.2' is a folder."""
    return ending[1:].isalpha() and len(ending) <= 5
