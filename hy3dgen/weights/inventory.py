"""What the verbs ``weights list|get|verify|path`` do; printing is the command line's."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from hy3dgen.errors import WeightsDamagedError, WeightsNotFoundError
from hy3dgen.runtime.files import sha256_of_file
from hy3dgen.weights import catalogue
from hy3dgen.weights.catalogue import CatalogueEntry
from hy3dgen.weights.download import DownloadOptions, recorded_sha256
from hy3dgen.weights.licence import is_accepted
from hy3dgen.weights.locate import find_folder, find_model, locate_folder, locate_model

_HEADER_LIMIT = 100 << 20  # a safetensors header larger than this is damage (the format's own limit)


@dataclass(frozen=True)
class ModelStatus:
    """One line of ``weights list``. folder is None when the model is not on this machine."""

    entry: CatalogueEntry
    folder: Path | None
    licence_accepted: bool

    @property
    def size_bytes(self) -> int:
        """Bytes on disk when it is here, else what the download takes."""
        if self.folder is None:
            return self.entry.download_bytes
        return sum(path.stat().st_size for path in _files(self.entry, self.folder))


@dataclass(frozen=True)
class FileCheck:
    """The result of looking through one file: ``problem`` is None when it is sound. sha256 in hexadecimal.

    compared: a hash was on record to compare with; without one only size and header were looked at
    """

    path: Path
    size_bytes: int
    sha256: str
    problem: str | None = None
    compared: bool = False


def list_models() -> list[ModelStatus]:
    """Every model of the catalogue, with where it is on this machine. Asks no network."""
    return [ModelStatus(entry, _find(entry), is_accepted(entry.licence)) for entry in catalogue.ENTRIES]


def is_here(name: str) -> bool:
    """True when this model of the catalogue can be used without a download."""
    return _find(catalogue.entry(name)) is not None


def path_of(name: str) -> Path:
    """The folder of a model on this machine.

    Raises UsageError for an unknown name and WeightsNotFoundError when the model is not here.
    """
    entry = catalogue.entry(name)
    folder = _find(entry)
    if folder is None:
        raise WeightsNotFoundError(
            f"'{name}' is not on this machine; get it with: python -m hy3dgen weights get {name}"
        )
    return folder


def get(name: str, options: DownloadOptions | None = None, *, offline: bool | None = None) -> Path:
    """The folder of a model, fetched first when it is not here. Raises what ``locate_model`` raises."""
    entry = catalogue.entry(name)
    if entry.kind in {"shape", "vae"}:
        return locate_model(name, offline=offline, download=options).folder
    return locate_folder(name, offline=offline, download=options)


def verify(name_or_folder: str | Path) -> list[FileCheck]:
    """Look through every weight file of a model: size, header and, where the hub recorded one, the hash.

    Raises WeightsNotFoundError when there is nothing to look at. Problems are in the result, not raised.
    """
    given = Path(name_or_folder).expanduser()
    if given.is_dir():
        paths = sorted(
            path for path in given.rglob("*") if path.suffix in {".safetensors", ".ckpt", ".bin", ".yaml", ".json"}
        )
        entry = None
    else:
        entry = catalogue.entry(str(name_or_folder))
        paths = _files(entry, path_of(entry.name))
    if not paths:
        raise WeightsNotFoundError(f"{given} holds no weight files")
    return [check_file(path, _published_size(entry, path)) for path in paths]


def check_file(path: Path, expected_bytes: int | None = None) -> FileCheck:
    """Look through one file. expected_bytes: the published size, None when it is not known."""
    size, digest = path.stat().st_size, sha256_of_file(path)
    recorded = recorded_sha256(path)
    problem = None
    if expected_bytes is not None and size != expected_bytes:
        problem = f"has {size} bytes, published are {expected_bytes}"
    elif recorded is not None and recorded != digest:
        problem = f"its SHA-256 is {digest}, the hub recorded {recorded}"
    elif path.suffix == ".safetensors":
        try:
            declared = safetensors_size(path)
        except WeightsDamagedError as error:
            problem = str(error)
        else:
            problem = None if size == declared else f"has {size} bytes, its header says {declared}"
    return FileCheck(path, size, digest, problem, compared=recorded is not None)


def safetensors_size(path: Path) -> int:
    """The size in bytes that a safetensors file should have, from its header. Raises WeightsDamagedError."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER_LIMIT + 1
        if length > _HEADER_LIMIT:
            raise WeightsDamagedError(f"{path} does not start like a safetensors file")
        try:
            header = json.loads(file.read(length))
            ends = [value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise WeightsDamagedError(f"{path} has an unreadable safetensors header") from error
    return 8 + length + max(ends, default=0)


def _find(entry: CatalogueEntry) -> Path | None:
    if entry.kind in {"shape", "vae"}:
        found = find_model(entry.name)
        return found.folder if found is not None else None
    return find_folder(entry.name)


def _files(entry: CatalogueEntry, folder: Path) -> list[Path]:
    """The entry's files in this folder, in whichever container they are there."""
    listed = [folder / file.path for file in entry.files]
    others = {".safetensors": (".ckpt", ".bin"), ".ckpt": (".safetensors",), ".bin": (".safetensors",)}
    candidates = [(path, *(path.with_suffix(suffix) for suffix in others.get(path.suffix, ()))) for path in listed]
    return [
        next(path for path in options if path.is_file())
        for options in candidates
        if any(path.is_file() for path in options)
    ]


def _published_size(entry: CatalogueEntry | None, path: Path) -> int | None:
    files = entry.files if entry is not None else ()
    return next((file.size_bytes for file in files if path.as_posix().endswith("/" + file.path)), None)
