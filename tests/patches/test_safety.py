"""Interrupted runs, foreign repositories, odd folders: nothing is lost, nothing is touched that should not be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patches import trees
from tools import patches
from tools.patching import store as store_module
from tools.patching.tree import STORE, Tree, TreeError

ROOT = Path(__file__).resolve().parents[2]
ONE = ["--only", "raised_strings"]
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return trees.write(tmp_path / "a tree ü", trees.FILES)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run([*GIT, "-C", str(folder), *arguments], check=True, capture_output=True)


def commit(folder: Path) -> None:
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        git(folder, *command)


@pytest.mark.parametrize("after", range(4))
def test_interrupted_apply_and_revert_leave_a_tree_that_reverts(tree, monkeypatch, after, capsys):
    """Ctrl-C behind any write, the copies of the originals included: `revert` gives the tree back."""
    before = trees.snapshot(tree)
    write, left = Tree.write, [after]

    def stop(self, name, data, mode=None):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(self, name, data, mode)

    monkeypatch.setattr(Tree, "write", stop)
    assert patches.main(["apply", str(tree), *ONE]) == 130
    assert "revert" in capsys.readouterr().err
    left[0] = 1
    assert patches.main(["revert", str(tree)]) in (0, 130)
    monkeypatch.setattr(Tree, "write", write)
    assert patches.main(["revert", str(tree)]) == 0
    assert trees.snapshot(tree) == before


def test_revert_stopped_while_it_removes_its_folder(tree, monkeypatch):
    """The manifest goes first: what is left over is neither damage nor a reason to refuse."""
    before = trees.snapshot(tree)
    assert patches.main(["apply", str(tree), *ONE]) == 0
    monkeypatch.setattr(store_module.shutil, "rmtree", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    assert patches.main(["revert", str(tree)]) == 130
    monkeypatch.undo()
    assert patches.main(["apply", str(tree), *ONE]) == 0
    assert patches.main(["revert", str(tree)]) == 0
    assert trees.snapshot(tree) == before


def test_manifest_removed_by_hand_does_not_lose_the_originals(tree, capsys):
    patches.main(["apply", str(tree), *ONE])
    (tree / STORE / "manifest.json").unlink()
    assert patches.main(["revert", str(tree)]) == 2
    assert "damaged" in capsys.readouterr().err
    assert any((tree / STORE).rglob("*.py"))


def test_two_versions_one_after_the_other(tree, monkeypatch):
    """A second apply that stops before its writes leaves the first one's files, which are not foreign changes."""
    before = trees.snapshot(tree)
    assert patches.main(["apply", str(tree), "--only", "texgen_devices"]) == 0
    write = Tree.write

    def full(self, name, data, mode=None):
        if not name.startswith(STORE):
            raise TreeError("no space left")
        write(self, name, data, mode)

    monkeypatch.setattr(Tree, "write", full)
    assert patches.main(["apply", str(tree), *ONE]) == 2
    monkeypatch.setattr(Tree, "write", write)
    assert patches.main(["apply", str(tree), *ONE]) == 0
    assert patches.main(["revert", str(tree)]) == 0
    assert trees.snapshot(tree) == before


def test_patched_file_removed_by_the_user(tree, capsys):
    """It counts as changed; --force brings it back with its mode, its folder too."""
    name = "hy3dgen/texgen/differentiable_renderer/mesh_render.py"
    (tree / name).chmod(0o640)
    before = trees.snapshot(tree)
    assert patches.main(["apply", str(tree), *ONE]) == 0
    shutil.rmtree((tree / name).parent)
    assert patches.main(["revert", str(tree)]) == 2
    assert name in capsys.readouterr().err
    assert patches.main(["revert", str(tree), "--force"]) == 0
    assert trees.snapshot(tree) == before
    assert os.name == "nt" or (tree / name).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("form", ["relative", "slash", "dots"])
def test_ways_to_name_the_tree(tree, monkeypatch, form):
    monkeypatch.chdir(tree.parent)
    given = {"relative": tree.name, "slash": f"{tree}{os.sep}", "dots": os.path.join(tree.name, "hy3dgen", "..")}[form]
    before = trees.snapshot(tree)
    assert patches.main(["apply", given, *ONE]) == 0
    assert patches.main(["revert", given]) == 0
    assert trees.snapshot(tree) == before


@pytest.mark.parametrize("where", ["root", "subfolder", "worktree"])
def test_uncommitted_changes_are_seen_wherever_the_repository_is(tmp_path, where):
    folder = tmp_path / "répo"
    tree = trees.write(folder / "sub dir" if where == "subfolder" else folder, trees.FILES)
    commit(folder)
    if where == "worktree":
        git(folder, "worktree", "add", "-q", str(tmp_path / "other"))
        tree = tmp_path / "other"
    assert patches.main(["apply", str(tree), *ONE]) == 0
    assert patches.main(["revert", str(tree)]) == 0
    (tree / "hy3dgen/texgen/pipelines.py").write_text(trees.FILES["hy3dgen/texgen/pipelines.py"] + "# mine\n")
    assert patches.main(["apply", str(tree), *ONE]) == 2


def test_line_ends_converted_by_git_are_no_changes(tmp_path):
    tree = trees.write(tmp_path / "tree", trees.crlf())
    git(tmp_path, "init", "-q", str(tree))
    git(tree, "config", "core.autocrlf", "true")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "base")
    assert patches.main(["apply", str(tree), *ONE]) == 0


def test_tree_unpacked_inside_somebody_elses_repository(tmp_path):
    """The repository does not hold the tree: it is as good as outside git."""
    (tmp_path / "README").write_text("x")
    commit(tmp_path)
    tree = trees.write(tmp_path / "unpacked", trees.FILES)
    assert patches.main(["apply", str(tree), *ONE]) == 0


def test_repository_that_git_cannot_read(tree, capsys):
    (tree / ".git").write_text("gitdir: nowhere\n")
    assert patches.main(["apply", str(tree), *ONE]) == 2
    assert "--force" in capsys.readouterr().err
    assert patches.main(["apply", str(tree), *ONE, "--force"]) == 0


def test_commands_named_by_a_foreign_repository_are_not_run(tree):
    """`git status` would run the monitor and the filters that a repository's own configuration names."""
    commit(tree)
    spy = tree.parent / "ran"
    (tree / ".gitattributes").write_text("*.py filter=spy\n")
    git(tree, "config", "filter.spy.clean", f"touch '{spy}'; cat")
    git(tree, "config", "core.fsmonitor", f"touch '{spy}'; false")
    os.utime(tree / "hy3dgen/rembg.py")
    assert patches.main(["apply", str(tree), "--only", "rembg_on_cpu"]) == 0
    assert not spy.exists()


def test_export_for_a_subfolder_and_for_line_ends(tmp_path):
    """`git am --directory` for a tree below the repository's root, `--keep-cr` for CRLF; encodings stay."""
    files = trees.crlf()
    tree = trees.write(tmp_path / "repo" / "sub", files)
    name = "hy3dgen/texgen/pipelines.py"
    (tree / name).write_bytes(b"# coding: latin-1\r\n# caf\xe9\r\n" + files[name].encode())
    git(tmp_path, "init", "-q", str(tree.parent))
    git(tree, "config", "core.autocrlf", "false")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "base")
    out = tmp_path / "out"
    assert patches.main(["export", str(tree), "--out", str(out), "--only", "texgen_devices"]) == 0
    assert patches.main(["export", str(tree), "--out", str(out), *ONE]) == 0
    (mail,) = out.iterdir()  # the earlier export is gone
    git(tree, "am", "-q", "--keep-cr", "--directory=sub", str(mail))
    applied = trees.snapshot(tree)
    git(tree, "reset", "-q", "--hard", "HEAD~1")
    assert patches.main(["apply", str(tree), *ONE]) == 0
    shutil.rmtree(tree / STORE)
    assert trees.snapshot(tree) == applied


def test_our_own_project_is_not_patched(capsys):
    assert patches.main(["apply", str(ROOT)]) == 3
    assert "come from" in capsys.readouterr().err


def test_folder_without_upstreams_classes(tmp_path):
    (tmp_path / "hy3dgen").mkdir()
    for verb in (["check"], ["verify"], ["record"], ["export", "--out", str(tmp_path / "out")]):
        assert patches.main([verb[0], str(tmp_path), *verb[1:]]) == 3
    assert not (tmp_path / "out").exists()


def test_script_runs_with_its_project_on_the_path(tree):
    """The script's own folder holds a file called patches.py, which must not be taken for the package."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, str(ROOT / "tools/patches.py"), "check", str(tree), *ONE]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tree)
    assert answer.returncode == 0, answer.stderr


def test_patch_that_stumbles_does_not_stop_the_rest(tree, monkeypatch, capsys):
    from tools.patching import model

    def load_all():
        first, *rest = model.load_all()[10:12]
        bad = model.Place(first.places[0].file, lambda source: source.nothing, lambda source: "not there")
        return [model.Patch(first.name, first.head, (bad,)), *rest]

    monkeypatch.setattr("tools.patching.commands.load_all", load_all)
    assert patches.main(["check", str(tree)]) == 1
    said = capsys.readouterr().out
    assert "please report" in said
    assert "applies          raised_strings" in said


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts a disk")
def test_full_disk(tmp_path):
    """A disk that fills up while originals are kept or files are written: exit 2, and revert restores."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=176k", "none", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("cannot mount")
    try:
        tree = trees.write(disk, trees.FILES)
        before = trees.snapshot(tree)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        for spare in (4096, 12288, 20480):
            filler = disk / "filler"
            filler.write_bytes(b"x" * max(0, free - spare))
            assert patches.main(["apply", str(tree), *ONE, "--force"]) in (0, 2)
            filler.unlink()
            assert patches.main(["revert", str(tree)]) == 0
            assert trees.snapshot(tree) == before
    finally:
        subprocess.run(["umount", disk], check=False)
