"""A mark inside the PNG files that this program writes, so that a later batch does not take them for inputs.

Only bytes: a text chunk 'Software: hy3dgen' right behind the header (PNG specification, 11.3.3.3), which every
program passes over.
"""

from __future__ import annotations

import zlib
from pathlib import Path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33  # signature, and the IHDR chunk: length, name, 13 bytes, checksum
_BODY = b"tEXtSoftware\0hy3dgen"
_CHUNK = (len(_BODY) - 4).to_bytes(4, "big") + _BODY + zlib.crc32(_BODY).to_bytes(4, "big")


def marked(png: bytes) -> bytes:
    """The PNG with the mark; other bytes as they are."""
    if not png.startswith(_SIGNATURE) or _CHUNK in png[: _HEADER_END + len(_CHUNK)]:
        return png
    return png[:_HEADER_END] + _CHUNK + png[_HEADER_END:]


def is_marked(path: Path) -> bool:
    """Whether this file was written by this program; False also for what cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_END + len(_CHUNK))
    except OSError:
        return False
    return start.startswith(_SIGNATURE) and start.endswith(_CHUNK)
