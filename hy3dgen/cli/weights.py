"""``python -m hy3dgen weights list|get|verify|path``: the printing; the work is in ``weights.inventory``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from hy3dgen.cli.console import Console
from hy3dgen.cli.exit_codes import DONE, WEIGHTS
from hy3dgen.errors import Cancelled
from hy3dgen.runtime.stages import CancelEvent
from hy3dgen.weights import catalogue, inventory
from hy3dgen.weights.catalogue import Licence
from hy3dgen.weights.download import DownloadOptions
from hy3dgen.weights.inventory import ModelStatus
from hy3dgen.weights.licence import Accept, text


def manage_weights(values: argparse.Namespace, console: Console) -> int:
    """Do one verb; returns the exit code, 4 when a file turns out damaged."""
    if values.verb == "list":
        return _list(values.json, console)
    if values.verb == "get":
        return _get(values, console)
    if values.verb == "path":
        console.result(str(inventory.path_of(values.name)))
        return DONE
    return _verify(values.name, console)


def licence_prompt(accepted_by_option: bool) -> Accept | None:
    """How a licence is accepted: by --accept-licence, else by asking on a terminal, else not at all."""
    if accepted_by_option:
        return lambda licence: True
    return _ask if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() else None


def download_options(
    accepted_by_option: bool, console: Console, cancel_event: CancelEvent | None = None
) -> DownloadOptions:
    """What happens before and during a download that the user asked for; ``cancel_event`` stops it, to go on later."""
    return DownloadOptions(accept=licence_prompt(accepted_by_option), progress=_Told(console, cancel_event))


class _Told:
    """Hands the progress of a download to the console, and stops it when the run is cancelled."""

    def __init__(self, console: Console, cancel_event: CancelEvent | None) -> None:
        self._console, self._cancel_event = console, cancel_event

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if self._cancel_event is not None and self._cancel_event.is_set():
            raise Cancelled("cancelled; what has arrived is kept, and the download goes on from there next time")
        if total:
            self._console.transfer(name, done, total)


def _ask(licence: Licence) -> bool:
    print(text(licence), file=sys.stderr)
    print("Do you accept? Type yes or no: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("yes", "y")


def _list(as_json: bool, console: Console) -> int:
    models = inventory.list_models()
    if as_json:
        console.result(json.dumps([_as_dict(model) for model in models], indent=1))
        return DONE
    console.result(f"{'name':<16}{'size':>9}  {'on this machine':<40} what")
    for model in models:
        where = str(model.folder) if model.folder is not None else "-"
        console.result(f"{model.entry.name:<16}{model.size_bytes / 1e9:>6.2f} GB  {where:<40} {model.entry.title}")
    licences = {model.entry.licence.identifier: model.entry.licence for model in models}
    for licence in licences.values():
        console.result(text(licence))
    return DONE


def _as_dict(model: ModelStatus) -> dict[str, Any]:
    return {
        "name": model.entry.name,
        "kind": model.entry.kind,
        "title": model.entry.title,
        "repo": model.entry.repo,
        "subfolder": model.entry.subfolder,
        "size_bytes": model.size_bytes,
        "folder": None if model.folder is None else str(model.folder),
        "licence": model.entry.licence.title,
        "licence_accepted": model.licence_accepted,
    }


def _get(values: argparse.Namespace, console: Console) -> int:
    options = download_options(values.accept_licence, console)
    entry = catalogue.entry(values.name)
    if not inventory.is_here(entry.name):
        console.say(f"{entry.name}: {entry.title}, {entry.download_bytes / 1e9:.2f} GB")
    folder = inventory.get(values.name, options, offline=values.offline or None)
    console.close()
    console.result(str(folder))
    return DONE


def _verify(name: str | None, console: Console) -> int:
    here = [name] if name is not None else [m.entry.name for m in inventory.list_models() if m.folder is not None]
    bad: list[str] = []
    for model in here:
        for check in inventory.verify(Path(model) if Path(model).is_dir() else model):
            good = "good" if check.compared else "good by size and header; no hash on record to compare"
            state = good if check.problem is None else f"DAMAGED: {check.problem}"
            console.result(f"{check.sha256[:16]}  {check.size_bytes:>13,}  {check.path}  {state}")
            bad += [model] * (check.problem is not None)
    if bad:
        names = [model for model in dict.fromkeys(bad) if not Path(model).is_dir()]
        again = ", then ".join(f"python -m hy3dgen weights get {model}" for model in names or ["NAME"])
        console.error(f"{len(bad)} file(s) are damaged; delete them and run: {again}")
    return WEIGHTS if bad else DONE
