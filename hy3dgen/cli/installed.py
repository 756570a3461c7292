"""Do the installed packages still fit? Asked at every start, so that an update of the checkout explains itself.

Reads package metadata only and imports none of the packages.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from hy3dgen.errors import MissingExtraError

RANGES_FILE = Path(__file__).parent.parent / "assets" / "dependency-ranges.txt"
# Two names of one package: a user may well have the one with windows and buttons.
EQUIVALENTS = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-silicon"),
}


def requirement_lines(path: Path = RANGES_FILE) -> list[str]:
    """The requirement lines of the ranges file, comments dropped."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def unmet(lines: list[str]) -> list[tuple[str, str | None]]:
    """Requirements that this environment does not satisfy, each with the version found (None: not installed)."""
    from packaging.requirements import Requirement

    missing: list[tuple[str, str | None]] = []
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        found = installed_version(requirement.name)
        if found is None or not requirement.specifier.contains(found, prereleases=True):
            missing.append((line, found))
    return missing


def installed_version(name: str) -> str | None:
    """The version of an installed package or of its twin under another name, None when neither is there."""
    for candidate in (name, *EQUIVALENTS.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def ensure_installed(path: Path = RANGES_FILE) -> None:
    """Raise MissingExtraError with the one command to run when an installed package does not fit."""
    command = "python -m pip install -r requirements.txt"
    try:
        missing = unmet(requirement_lines(path))
    except ImportError as error:
        raise MissingExtraError(
            f"the package 'packaging' is not installed; run: {command}", package="packaging", command=command
        ) from error
    if not missing:
        return
    words = ", ".join(f"{line} (found {found or 'none'})" for line, found in missing)
    raise MissingExtraError(
        f"installed packages do not fit: {words}; run: {command}", package=missing[0][0], command=command
    )
