"""Unified diffs that `git am` and `patch -p1` take, made from the tree at hand."""

from __future__ import annotations

import difflib
from email.header import Header

AUTHOR = b"Hunyuan3D low-VRAM patches <patches@localhost>"
DATE = "Thu, 1 Jan 2026 00:00:00 +0000"  # fixed: the same tree gives the same files


def unified(name: str, before: bytes, after: bytes) -> bytes:
    """The difference of one file in git's form; line ends as they are."""
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _lines(before),
        _lines(after),
        b"a/" + name.encode(),
        b"b/" + name.encode(),
    )
    out = [f"diff --git a/{name} b/{name}\n".encode()]
    for line in lines:
        out.append(line)
        if not line.endswith(b"\n"):
            out.append(b"\n\\ No newline at end of file\n")
    return b"".join(out)


def _lines(data: bytes) -> list[bytes]:
    """Lines split at line feeds only, as git does: bytes.splitlines also splits at a lone carriage return."""
    parts = data.split(b"\n")
    lines = [part + b"\n" for part in parts[:-1]]
    return [*lines, parts[-1]] if parts[-1] else lines


def mail(number: int, total: int, subject: str, body: str, files: dict[str, tuple[bytes, bytes]]) -> bytes:
    """One message of a patch series for `git am`."""
    head = "\n".join(
        [
            "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001",
            f"From: {AUTHOR.decode()}",
            f"Date: {DATE}",
            f"Subject: [PATCH {number}/{total}] {_header(subject)}",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=UTF-8",
            "Content-Transfer-Encoding: 8bit",
            "",
            body,
            "---",
            "",
        ]
    )
    diffs = b"".join(unified(name, *pair) for name, pair in sorted(files.items()))
    return head.encode() + diffs + b"-- \nhy3dgen-patches\n"


def _header(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8").encode()
