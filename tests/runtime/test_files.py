"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hy3dgen.errors import OutputError
from hy3dgen.runtime import files
from hy3dgen.runtime.files import ensure_writable, reason, sha256_of_bytes, sha256_of_file, write_atomic


def test_it_writes_bytes_and_text_and_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.bin"
    write_atomic(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    write_atomic(path, "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    assert os.listdir(path.parent) == ["x.bin"], "no temporary file stays"


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_the_file_has_ordinary_permissions(tmp_path: Path) -> None:
    """mkstemp makes files for the owner alone; a server could not have handed such a result out."""
    (tmp_path / "ordinary").write_bytes(b"")
    write_atomic(tmp_path / "x", b"")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "x.glb"
    path.write_bytes(b"old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, place, full)
    with pytest.raises(OutputError, match=r"cannot write .*x\.glb': the disk is full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.glb"]


def test_a_cancel_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == []


def test_too_little_room_is_said_before_the_work(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "new", needed_bytes=1)
    assert (tmp_path / "new").is_dir()
    with pytest.raises(OutputError, match="are needed; free some space"):
        ensure_writable(tmp_path, needed_bytes=1 << 60)


def test_every_reason_is_words_and_unknown_ones_are_passed_on() -> None:
    assert "read-only" in reason(OSError(errno.EROFS, "x"))
    assert reason(OSError(errno.EIO, "Input/output error")) == "Input/output error"


def test_hashes_of_bytes_and_files_agree(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of_file(tmp_path / "x") == sha256_of_bytes(b"abc")
    assert sha256_of_bytes(b"abc").startswith("ba7816bf")
