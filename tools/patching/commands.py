"""The verbs of `tools/patches.py`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tools.patching import diffs
from tools.patching.model import (
    ALREADY,
    APPLIES,
    HEAD_FIELDS,
    NO_FIT,
    ROOT,
    Finding,
    Patch,
    Work,
    hashes,
    load_all,
    run_all,
    verify,
)
from tools.patching.store import Store
from tools.patching.tree import Tree, TreeError

VERIFIED = ROOT / "patches" / "VERIFIED.json"


class NotUpstream(Exception):
    """The folder is no upstream tree."""


def run(args: argparse.Namespace) -> int:
    """Run the verb that was asked for; returns the exit code."""
    patches = _chosen(load_all(), getattr(args, "only", None))
    if args.verb == "list":
        return show_list(patches)
    try:
        tree = Tree(args.tree)
    except TreeError as error:
        raise NotUpstream(str(error)) from error
    if tree.ours():
        raise NotUpstream(f"{tree.root} is the project that these patches come from; it has the techniques already")
    if args.verb == "revert":
        return revert(tree, force=args.force)
    if not tree.known() and not getattr(args, "force", False):
        hint = "; --force applies all the same" if args.verb == "apply" else ""
        raise NotUpstream(f"{tree.root} does not look like an upstream tree: its classes are not there{hint}")
    if args.verb == "check":
        return check(tree, patches)
    if args.verb == "export":
        return export(tree, patches, args.out)
    if args.verb == "apply":
        return apply(tree, patches, force=args.force)
    if args.verb == "verify":
        return show_verify(tree, patches)
    return record(tree, patches, args.name)


def _chosen(patches: list[Patch], names: list[str] | None) -> list[Patch]:
    unknown = set(names or ()) - {patch.name for patch in patches}
    if unknown:
        raise TreeError(f"no patch called {', '.join(sorted(unknown))}; 'list' names them all")
    return [patch for patch in patches if not names or patch.name in names]


def show_list(patches: list[Patch]) -> int:
    for patch in patches:
        print(f"{patch.name}\n    {patch.head.get('Description', '')}")
        for name in HEAD_FIELDS[1:]:
            print(f"    {name}: {patch.head.get(name, '')}")
    return 0


def check(tree: Tree, patches: list[Patch]) -> int:
    """Print what each patch would do; changes nothing."""
    work = run_all(tree, patches, lines=True)
    _print(work.findings)
    return _code(work.findings)


def export(tree: Tree, patches: list[Patch], out: Path) -> int:
    """Write one diff a patch, each made on top of those before it."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("[0-9][0-9][0-9][0-9]-*.patch"):
        if diffs.AUTHOR in stale.read_bytes()[:200]:
            stale.unlink()  # of an earlier export: `git am DIR/*.patch` would take it too
    work, messages = Work(tree), []
    for patch in patches:
        before = dict(work.now)
        work.run(patch)
        files = {
            name: (before.get(name, work.before[name]), data)
            for name, data in work.now.items()
            if data != before.get(name, work.before[name])
        }
        if files:
            messages.append((patch, files))
    for number, (patch, files) in enumerate(messages, 1):
        subject = patch.head.get("Description", patch.name).split(". ")[0].rstrip(".")
        body = "\n".join(f"{name}: {patch.head.get(name, '')}" for name in HEAD_FIELDS)
        target = out / f"{number:04d}-{patch.name.replace('_', '-')}.patch"
        _write(target, diffs.mail(number, len(messages), subject, body, files))
        print(target)
    _print([finding for finding in work.findings if finding.state == NO_FIT])
    return _code(work.findings)


def apply(tree: Tree, patches: list[Patch], *, force: bool) -> int:
    """Change the files on disk. Originals are kept first, so that a stop at any point can be reverted."""
    store = Store(tree)
    work = run_all(tree, patches)
    changed = work.changed()
    if not force:
        known = store.files()
        touched = store.foreign_changes() + [name for name in tree.dirty(sorted(changed)) if name not in known]
        if touched:
            raise TreeError(
                f"changes that are not committed in {', '.join(touched)}; commit them first, or use --force"
            )
    if changed:
        store.save(work.before, changed)
        for number, (name, data) in enumerate(changed.items()):
            try:
                tree.write(name, data)
            except TreeError as error:
                raise TreeError(
                    f"{error}; {number} of {len(changed)} files were changed, 'revert' undoes it"
                ) from error
    _print(work.findings)
    print(f"{len(changed)} files changed; 'revert' undoes it" if changed else "nothing to change")
    return _code(work.findings)


def revert(tree: Tree, *, force: bool) -> int:
    """Restore what `apply` changed and remove the hidden folder."""
    store = Store(tree)
    files = store.files()
    if not files:
        print("nothing has been applied here")
        if store.exists():
            store.remove()
        return 0
    changed = store.foreign_changes()
    if changed and not force:
        raise TreeError(f"{', '.join(changed)} changed after 'apply'; --force restores the originals all the same")
    originals = {name: store.original(name) for name in files}
    for name, data in originals.items():
        tree.write(name, data, files[name]["mode"])
    store.remove()
    print(f"{len(files)} files restored")
    return 0


def show_verify(tree: Tree, patches: list[Patch]) -> int:
    """Check the tree as it is on disk against every patch's post-conditions."""
    wrong = 0
    for patch, file, why in verify(tree, patches):
        wrong += why is not None
        print(f"{'ok     ' if why is None else 'MISSING'}  {patch}  {file}{f': {why}' if why else ''}")
    return 1 if wrong else 0


def record(tree: Tree, patches: list[Patch], name: str | None) -> int:
    """Add this tree to VERIFIED.json: commit, result per patch, hashes of touched files before and after."""
    if Store(tree).exists():
        raise TreeError("the patches are applied to this tree; revert it first, so that its own files are recorded")
    work = run_all(tree, patches)
    changed = work.changed()
    entry = {
        "name": name or tree.root.name,
        "commit": tree.commit(),
        "patches": {patch.name: _states(work.findings, patch.name) for patch in patches},
        "before": hashes({file: work.before[file] for file in changed}),
        "after": hashes(changed),
    }
    trees = json.loads(VERIFIED.read_text(encoding="utf-8"))["trees"] if VERIFIED.exists() else []
    trees = [other for other in trees if other["before"] != entry["before"]] + [entry]
    _write(VERIFIED, (json.dumps({"trees": trees}, indent=1, sort_keys=True) + "\n").encode())
    _print(work.findings)
    return _code(work.findings)


def _states(findings: list[Finding], patch: str) -> dict[str, str]:
    return {finding.file: finding.state for finding in findings if finding.patch == patch}


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        where = f"{finding.file}:{finding.line}" if finding.line else finding.file
        print(f"{finding.state:<15}  {finding.patch}  {where}{f': {finding.why}' if finding.why else ''}")


def _code(findings: list[Finding]) -> int:
    return 0 if all(finding.state in (APPLIES, ALREADY) for finding in findings) else 1


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
