"""Files that are either whole or not there: atomic writes, hashes, and early answers about folders.

Knows nothing of meshes, pictures or reports; bytes in, files out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from hy3dgen.errors import OutputError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` so that ``path`` holds either what it held before or all of it, also after a power cut.

    data: bytes, or text that is written as UTF-8. The folder is made when it is missing.
    Raises OutputError when the folder cannot be made or written, or the disk is full; nothing half-written stays.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    make_folder(path.parent)
    temporary: str | None = None
    try:
        # Same folder, so that the rename never crosses a file system.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner reads; a result is an ordinary file.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {reason(error)}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
    _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make ``folder`` with its parents. Raises OutputError when something else is there or it may not be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder '{folder}': {reason(error)}") from error


def ensure_writable(folder: Path, *, needed_bytes: int = 0) -> None:
    """Find out before the work whether ``folder`` (made if missing) takes files, and ``needed_bytes`` of them.

    Raises OutputError when it does not.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError(f"cannot write into the folder '{folder}': {reason(error)}") from error
    if free_bytes < needed_bytes:
        raise OutputError(
            f"the disk of '{folder}' has {free_bytes / 1e6:.0f} MB free, but about {needed_bytes / 1e6:.0f} MB are "
            "needed; free some space or choose another --output"
        )


def sha256_of_bytes(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, read in pieces. Raises the file system's own errors."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: OSError) -> str:
    """Why the file system said no, in words a user can act on."""
    words = {
        errno.ENOSPC: "the disk is full; free some space or choose another place",
        getattr(errno, "EDQUOT", -1): "your disk quota is used up; free some space or choose another place",
        errno.EACCES: "you may not write there; choose another place or mend the permissions",
        errno.EPERM: "you may not write there; choose another place or mend the permissions",
        errno.EROFS: "that file system is read-only; choose another place",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EEXIST: "a file of that name is in the way",
        errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    }
    return words.get(error.errno or 0, error.strerror or str(error))


def _umask() -> int:
    """The process's file creation mask; there is no way to read it but to set it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; Windows and some network file systems cannot, and need not."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
