"""One public file over HTTP, with progress, a way to stop, and a checked hash; a broken transfer goes on later.

One file from one release page, for one process at a time. Weights of models come through ``weights``, which this room
may not import: the look at the disk is its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hy3dgen.errors import DownloadError

Progress = Callable[[int, int | None], None]
CHUNK_BYTES = 1 << 18
TIMEOUT_S = 20.0
POLL_S = 0.2
_SPARE_BYTES = 64 << 20  # so that a download never fills the disk to the last byte
_HTTP_COMPLETE = 416  # 'range not satisfiable': what is here already is all there is


def fetch(url: str, target: Path, *, md5: str, progress: Progress) -> None:
    """Fetch ``url`` to ``target``; what an earlier try left in ``target``.part is continued.

    A second process that wants the same file waits for the first, and takes what that has fetched.
    md5: of the whole file, hexadecimal; a file that differs is removed
    progress: called with (bytes done, bytes in all or None) at every piece, and while it waits; what it raises ends it
    Raises DownloadError when the address cannot be reached, the disk is too small, the transfer breaks off or the file
    is not the right one.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, part, progress):
            if target.is_file():
                return
            _transfer(url, part, progress)
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "md5").hexdigest()
            if digest != md5:
                part.unlink()
                raise DownloadError(f"{url} arrived damaged (MD5 {digest}, expected {md5}); run again")
            part.replace(target)
    except (OSError, http.client.HTTPException) as error:  # URLError, timeouts and a full disk are OSErrors
        if isinstance(error, DownloadError):
            raise
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{url} could not be downloaded ({reason}); what has arrived is kept") from error


@contextlib.contextmanager
def _alone(target: Path, part: Path, progress: Progress) -> Iterator[None]:
    """Hold the file's lock; tell how far the other one has come while waiting for it."""
    from filelock import FileLock, Timeout

    path = target.with_name(target.name + ".lock")
    lock = FileLock(path)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_S)
        except Timeout:
            progress(part.stat().st_size if part.exists() else 0, None)
    try:
        yield
    finally:
        # Before the release: whoever gets a removed lock finds the file there, or takes a new lock. Windows refuses.
        if not part.exists():
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()


def _transfer(url: str, part: Path, progress: Progress) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == _HTTP_COMPLETE and done:
            return
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            done = 0  # the server sends the whole file again
        total = _total(answer, done)
        free_bytes = shutil.disk_usage(part.parent).free
        if total is not None and free_bytes < total - done + _SPARE_BYTES:
            raise DownloadError(
                f"{url} takes {(total - done) / 1e6:.0f} MB more but the disk of {part.parent} has "
                f"{free_bytes / 1e6:.0f} MB free; free some space"
            )
        with part.open("ab" if done else "wb") as file:
            progress(done, total)
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
    if total is not None and done < total:
        raise http.client.IncompleteRead(b"", total - done)


def _total(answer: Any, done: int) -> int | None:
    length = answer.headers.get("Content-Length")
    return done + int(length) if length and length.isdigit() else None
