"""What is needed to take the patches out again: one hidden folder inside the tree, removed by `revert`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tools.patching.tree import STORE, Tree, TreeError, digest


class Store:
    """Originals of the files we changed, and their hashes before and after."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder: Path = tree.path(STORE)

    def exists(self) -> bool:
        return self.folder.exists()

    def files(self) -> dict[str, dict[str, str]]:
        """{file: {before, after}} (sha-256) of what has been applied; empty when nothing has."""
        if not self.exists():
            return {}
        try:
            content = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            files = content["files"]
            if not all(
                isinstance(entry["before"], str) and isinstance(entry["after"], str) for entry in files.values()
            ):
                raise TypeError("hashes are not text")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TreeError(
                f"{STORE}/manifest.json is damaged ({error}); restore the tree from your own copy"
            ) from error
        return files

    def foreign_changes(self) -> list[str]:
        """Files we applied to that somebody has changed since."""
        changed = []
        for name, entry in self.files().items():
            if digest(self.tree.read(name)) not in entry.values():
                changed.append(name)
        return changed

    def save(self, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        """Keep originals and hashes, before any file of the tree changes; the first original of a file stays."""
        files = self.files()
        originals = self.folder / "before"
        for name, data in after.items():
            known = files.get(name)
            files[name] = {"before": known["before"] if known else digest(before[name]), "after": digest(data)}
            if known is None:
                target = originals.joinpath(*name.split("/"))
                self._make(target.parent)
                target.write_bytes(before[name])
        self._make(self.folder)
        text = json.dumps({"version": 1, "files": files}, indent=1, sort_keys=True) + "\n"
        self.tree.write(f"{STORE}/manifest.json", text.encode())

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TreeError(f"{STORE}: cannot be written: {error.strerror}") from error

    def original(self, name: str) -> bytes:
        """The file as it was before the first apply; its hash is checked."""
        data = self.tree.read(f"{STORE}/before/{name}")
        if digest(data) != self.files()[name]["before"]:
            raise TreeError(f"{STORE}/before/{name} is damaged; restore {name} from your own copy")
        return data

    def remove(self) -> None:
        shutil.rmtree(self.folder)
