"""One public file over HTTP, with progress, a way to stop, and a checked hash; a broken transfer goes on later.

Only the standard library: it serves one file from one release page. Weights of models come through ``weights``.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hy3dgen.errors import DownloadError

Progress = Callable[[int, int | None], None]
CHUNK_BYTES = 1 << 18
TIMEOUT_S = 20.0
_HTTP_COMPLETE = 416  # 'range not satisfiable': what is here already is all there is


def fetch(url: str, target: Path, *, md5: str, progress: Progress) -> None:
    """Fetch ``url`` to ``target``; what an earlier try left in ``target``.part is continued.

    md5: of the whole file, hexadecimal; a file that differs is removed
    progress: called with (bytes done, bytes in all or None) at every piece; what it raises ends the transfer
    Raises DownloadError when the address cannot be reached, the transfer breaks off or the file is not the right one.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
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
