"""Results of stages on disk, so that a later run with the same inputs and options goes on after the last good one.

A stage is found again by its key, a hash over everything that decides its result; its files are checked by their own
hashes, so that a damaged one is made again. Formats are open: PNG, safetensors, JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hy3dgen.errors import InputError, OutputError
from hy3dgen.runtime.files import ensure_writable, sha256_of_bytes, write_atomic

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
T = TypeVar("T")
Files = dict[str, bytes]


@dataclass(frozen=True)
class Kind(Generic[T]):
    """How a stage's result becomes files and comes back; ``decode(encode(x))`` is x exactly."""

    encode: Callable[[T], Files]
    decode: Callable[[Files], T]


class Keep:
    """The kept stages of one task in one folder, listed in manifest.json.

    resumed: stages that were taken from an earlier run; damaged: those whose files were not what was written; trouble:
    why nothing more could be kept, None while all is well
    Raises OutputError when the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        ensure_writable(folder)
        self.folder = folder
        self.resumed: list[str] = []
        self.damaged: list[str] = []
        self.trouble: str | None = None
        self._stages: dict[str, Any] = self._read_manifest()

    def through(self, name: str, key: str, kind: Kind[T], make: Callable[[], T]) -> T:
        """The kept result of stage ``name`` when its key fits and its files are whole, else ``make()``, kept."""
        files = self._fetch(name, key)
        if files is not None:
            try:
                result = kind.decode(files)
            except (ValueError, OSError, KeyError, InputError):
                self.damaged.append(name)
            else:
                self.resumed.append(name)
                return result
        result = make()
        if self.trouble is None:
            try:
                self._store(name, key, kind.encode(result))
            except OutputError as error:  # a full disk must not cost the result that is on its way
                self.trouble = str(error)
        return result

    def _fetch(self, name: str, key: str) -> Files | None:
        stage = self._stages.get(name)
        if not isinstance(stage, dict) or stage.get("key") != key:
            return None
        files: Files = {}
        for file_name, digest in stage.get("files", {}).items():
            path = self.folder / Path(file_name).name
            content = path.read_bytes() if path.is_file() else b""
            if sha256_of_bytes(content) != digest:
                self.damaged.append(name)
                return None
            files[file_name] = content
        return files

    def _store(self, name: str, key: str, files: Files) -> None:
        for file_name, content in files.items():
            write_atomic(self.folder / file_name, content)
        hashes = {file_name: sha256_of_bytes(content) for file_name, content in files.items()}
        self._stages[name] = {"key": key, "files": hashes}
        # The manifest is written last: until then the stage does not count.
        manifest = {"schema": SCHEMA_VERSION, "stages": self._stages}
        write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / MANIFEST
        if not path.is_file():
            return {}
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.damaged.append(MANIFEST)
            return {}
        fits = isinstance(manifest, dict) and manifest.get("schema") == SCHEMA_VERSION
        stages = manifest.get("stages") if fits else None
        return stages if isinstance(stages, dict) else {}


def key_of(*parts: object) -> str:
    """A hash over plain values: equal parts, equal key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def through(keep: Keep | None, name: str, key: str, kind: Kind[T], make: Callable[[], T]) -> T:
    """As ``Keep.through``; without a keep just ``make()``."""
    return make() if keep is None else keep.through(name, key, kind, make)


def as_json_file(values: Mapping[str, Any]) -> bytes:
    """Plain values as a file's content."""
    return (json.dumps(values, indent=1) + "\n").encode()
