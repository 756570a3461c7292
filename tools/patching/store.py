"""What is needed to take the patches out again: one hidden folder inside the tree, removed by `revert`."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

from tools.patching.syntax import DoesNotFit
from tools.patching.tree import STORE, Tree, TreeError, digest


class Store:
    """Originals of the files we changed, and their hashes before and after."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder: Path = tree.path(STORE)

    def exists(self) -> bool:
        return self.folder.exists()

    def files(self) -> dict[str, dict]:
        """{file: {before, after, mode}} of what has been applied; empty when nothing has.

        before: sha-256 of the original; after: sha-256 of every state that `apply` gave it or was about to give it
        """
        if not self.exists() or self._is_leftover():
            return {}
        try:
            content = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            files = content["files"]
            for entry in files.values():
                if not (isinstance(entry["before"], str) and isinstance(entry["mode"], int)):
                    raise TypeError("an entry lacks its hash or mode")
                if not all(isinstance(state, str) for state in entry["after"]):
                    raise TypeError("hashes are not text")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TreeError(
                f"{STORE}/manifest.json is damaged ({error}); restore the tree from your own copy"
            ) from error
        return files

    def _is_leftover(self) -> bool:
        """Whether an interrupted run left the folder while the tree had its own files.

        The manifest is written before any file of the tree changes and removed after all are restored, so without it
        every original that is kept must still equal the file of the tree.
        """
        if (self.folder / "manifest.json").exists():
            return False
        kept = self.folder / "before"
        names = [path.relative_to(kept).as_posix() for path in kept.rglob("*") if not path.is_dir()]
        return all(self._present(name) == self._present(f"{STORE}/before/{name}") for name in names)

    def _present(self, name: str) -> bytes | None:
        try:
            return self.tree.read(name)
        except DoesNotFit:
            return None

    def foreign_changes(self) -> list[str]:
        """Files we applied to that somebody has changed or removed since."""
        changed = []
        for name, entry in self.files().items():
            data = self._present(name)
            if data is None or digest(data) not in (entry["before"], *entry["after"]):
                changed.append(name)
        return changed

    def save(self, before: dict[str, bytes], after: dict[str, bytes]) -> None:
        """Keep originals and hashes, before any file of the tree changes; the first original of a file stays."""
        files = self.files()
        for name, data in after.items():
            if name not in files:
                mode = stat.S_IMODE(self.tree.path(name).stat().st_mode)
                files[name] = {"before": digest(before[name]), "after": [], "mode": mode}
                self.tree.write(f"{STORE}/before/{name}", before[name])
            files[name]["after"] = [*files[name]["after"], digest(data)]
        text = json.dumps({"version": 1, "files": files}, indent=1, sort_keys=True) + "\n"
        self.tree.write(f"{STORE}/manifest.json", text.encode())

    def original(self, name: str) -> bytes:
        """The file as it was before the first apply; its hash is checked."""
        data = self._present(f"{STORE}/before/{name}")
        if data is None or digest(data) != self.files()[name]["before"]:
            raise TreeError(f"{STORE}/before/{name} is damaged; restore {name} from your own copy")
        return data

    def remove(self) -> None:
        """Remove the folder, its manifest first: what an interruption leaves is then known to be a leftover."""
        (self.folder / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder)
