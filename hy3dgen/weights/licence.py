"""The owner's licence of official weights: shown and accepted once per machine, before the first download."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from hy3dgen.errors import LicenceError, OutputError
from hy3dgen.weights.catalogue import Licence

Accept = Callable[[Licence], bool]


def records_folder() -> Path:
    """Where acceptances are kept: one small file each, in the user's cache folder."""
    return Path("~/.cache/hy3dgen/licences").expanduser()


def text(licence: Licence) -> str:
    """What the user reads before accepting: title, the owner's line and the territories left out."""
    limits = ", ".join(licence.excluded_territories)
    return f"{licence.title}: {licence.line}." + (f" Not licensed in: {limits}." if limits else "")


def is_accepted(licence: Licence) -> bool:
    """True when none is needed, when it is on record, or when ``HY3DGEN_ACCEPT_LICENCE`` is 1 (for servers)."""
    if not licence.needs_acceptance or os.environ.get("HY3DGEN_ACCEPT_LICENCE") == "1":
        return True
    return _record(licence).is_file()


def remember(licence: Licence) -> None:
    """Put the acceptance on record. Raises OutputError when the cache folder cannot be written."""
    path = _record(licence)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"title": licence.title, "accepted": datetime.now(UTC).isoformat(timespec="seconds")})
        )
    except OSError as error:
        raise OutputError(f"the acceptance of the licence cannot be stored in {path} ({error})") from error


def ensure_accepted(licence: Licence, accept: Accept | None = None, *, name: str = "NAME") -> None:
    """Ask once, remember the yes. Raises LicenceError when nobody can be asked or the answer is no.

    accept: shows ``text(licence)`` and returns the user's answer; None when there is nobody to ask
    name: of the weights that wait for the answer, in the catalogue
    """
    if is_accepted(licence):
        return
    if accept is None:
        raise LicenceError(
            f"the weights of '{name}' need your agreement to their owner's licence first. {text(licence)} "
            f"If you agree, run again with --accept-licence, or: python -m hy3dgen weights get {name} --accept-licence"
        )
    if not accept(licence):
        raise LicenceError(f"the licence was not accepted, so nothing was downloaded. {text(licence)}")
    remember(licence)


def _record(licence: Licence) -> Path:
    return records_folder() / f"{licence.identifier}.json"
