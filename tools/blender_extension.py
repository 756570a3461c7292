"""Make the zip that Blender 4.2+ installs as an extension: python tools/blender_extension.py [FOLDER]"""

from __future__ import annotations

import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEMBERS = {
    "blender_manifest.toml": "blender_manifest.toml",
    "blender_addon.py": "__init__.py",
    "LICENSE": "LICENSE",
}
EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same files make the same zip


def build(folder: Path) -> Path:
    """Write ID-VERSION.zip into ``folder``; returns its path."""
    facts = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{facts['id']}-{facts['version']}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for source, name in MEMBERS.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), (ROOT / source).read_bytes(), zipfile.ZIP_DEFLATED)
    return path


if __name__ == "__main__":
    print(build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
