"""From what a user typed after --input to a list of tasks: files, folders, globs, folders of views.

Looks at names and folders only; no picture is opened here.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from hy3dgen.errors import ImageError, UsageError
from hy3dgen.images.mark import is_marked
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG, Task

PICTURE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2", ".tga", ".ppm", ".pgm", ".ico",
)  # fmt: skip


def tasks_from_inputs(inputs: Sequence[str], *, results: Sequence[Path] = ()) -> tuple[list[Task], bool]:
    """One task for each picture: files as they are, folders with their sub-folders, globs expanded.

    results: folders that this run writes into; where one lies inside an input folder, it is passed over
    Returns (tasks, is a batch). It is a batch when more than one picture, a folder or a glob was asked for. Duplicates
    are dropped, and so are pictures in folders and globs that this program has written: they are previews and textures
    of earlier runs. A missing file stays a task of its own, so that it fails alone.
    Raises ImageError when a folder or a glob holds no picture, UsageError for an empty name.
    """
    tasks: dict[str, Task] = {}
    is_batch = len(inputs) > 1
    for words in inputs:
        if not words.strip():  # an empty variable in a shell must not mean the current folder
            raise UsageError("one of the names after --input is empty; give the path of a picture")
        path = Path(words).expanduser()
        if path.is_dir():
            is_batch = True
            found = _in_folder(path, [folder.absolute() for folder in results])
        elif not path.exists() and glob.has_magic(words):
            is_batch = True
            found = _by_glob(words)
        else:
            found = [Task(name=path.stem, pictures={"front": path})]
        for task in found:
            tasks.setdefault(str(Path(str(task.pictures["front"])).absolute()), task)
    return list(tasks.values()), is_batch


def views_in_folder(folder: Path) -> dict[str, Path]:
    """front.png, left.png, back.png, right.png (any picture ending) in ``folder``, front first.

    Raises ImageError when the folder or its front view is missing, UsageError when a view is there twice.
    """
    if not folder.is_dir():
        raise ImageError(f"'{folder}' is not a folder; give a folder with front.png, left.png, back.png, right.png")
    views: dict[str, Path] = {}
    for view in VIEW_AZIMUTHS_DEG:
        found = [p for p in sorted(folder.iterdir()) if p.stem.lower() == view and _is_picture(p)]
        if len(found) > 1:
            raise UsageError(
                f"'{folder}' has two pictures of the {view} view: {found[0].name} and {found[1].name}; keep one"
            )
        if found:
            views[view] = found[0]
    if "front" not in views:
        raise ImageError(
            f"'{folder}' has no front view; views are found by name: front.png and, if you have them, left.png, "
            "back.png, right.png"
        )
    return views


def _in_folder(folder: Path, results: Sequence[Path]) -> list[Task]:
    inside = [place for place in results if folder.absolute() in place.parents]
    found = [p for p in sorted(folder.rglob("*")) if _is_picture(p) and not _is_hidden(p.relative_to(folder))]
    pictures = [p for p in found if not is_marked(p) and not any(place in p.absolute().parents for place in inside)]
    if not pictures:
        only = f" but {len(found)} that this program has written" if found else ""
        raise ImageError(f"the folder '{folder}' holds no pictures ({', '.join(PICTURE_SUFFIXES[:5])}, …){only}")
    return [Task(name=p.stem, pictures={"front": p}, folder=PurePath(p.relative_to(folder).parent)) for p in pictures]


def _by_glob(pattern: str) -> list[Task]:
    base = _fixed_part(pattern)
    pictures = [
        path
        for path in map(Path, sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True)))
        if _is_picture(path) and not is_marked(path)
    ]
    if not pictures:
        raise ImageError(f"no picture fits '{pattern}'; check the pattern, and quote it if your shell changes it")
    return [Task(name=p.stem, pictures={"front": p}, folder=_below(p.parent, base)) for p in pictures]


def _fixed_part(pattern: str) -> Path:
    """The folders of a pattern before its first wildcard: what sub-folders are mirrored from."""
    return Path(*_until_wildcard(Path(pattern).expanduser().parent.parts))


def _until_wildcard(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _below(folder: Path, base: Path) -> PurePath:
    return PurePath(folder.relative_to(base)) if folder.is_relative_to(base) else PurePath()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()


def _is_hidden(path: PurePath) -> bool:
    return any(part.startswith(".") for part in path.parts)
