"""The list of jobs on disk: SQLite, so that it survives the server. Rows are documents; what they mean is elsewhere.

One server at a time has a folder: a second database, locked for as long as the process lives, sees to that.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hy3dgen.errors import OutputError, UsageError
from hy3dgen.runtime.files import make_folder

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT UNIQUE NOT NULL,
  status TEXT NOT NULL,
  finished REAL,
  bytes INTEGER NOT NULL DEFAULT 0,
  document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, number);
"""


class JobStore:
    """Documents by id, in the order in which they were added. Safe to use from several threads.

    Raises UsageError when another server uses the folder, OutputError when it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._lock = threading.RLock()
        self._guard = _claim(folder)
        try:
            self._base = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            self._base.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise OutputError(f"the list of jobs in '{folder}' cannot be used: {error}; give another folder") from error

    def close(self) -> None:
        """Write everything down and let another server have the folder."""
        with self._lock:
            self._base.close()
            self._guard.close()

    def put(self, document: dict[str, Any], *, size_bytes: int = 0) -> None:
        """Add a document, or replace the one with its id. It needs 'id', 'status' and 'finished'."""
        row = (document["id"], document["status"], document["finished"], size_bytes, json.dumps(document))
        with self._using():
            self._base.execute(
                "INSERT INTO jobs (id, status, finished, bytes, document) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO "
                "UPDATE SET status = excluded.status, finished = excluded.finished, bytes = excluded.bytes, "
                "document = excluded.document",
                row,
            )

    def get(self, job: str) -> dict[str, Any] | None:
        """The document with this id, None when there is none."""
        with self._using():
            row = self._base.execute("SELECT document FROM jobs WHERE id = ?", (job,)).fetchone()
        return None if row is None else json.loads(row[0])

    def remove(self, job: str) -> None:
        """Forget a document."""
        with self._using():
            self._base.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def page(
        self, limit: int, *, before: str | None = None, statuses: Sequence[str] = ()
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Documents, newest first, and the id to give as ``before`` for the following ones."""
        words, values = [], []
        if before is not None:
            words.append("number < (SELECT number FROM jobs WHERE id = ?)")
            values.append(before)
        if statuses:
            words.append(f"status IN ({', '.join('?' * len(statuses))})")
            values.extend(statuses)
        where = f"WHERE {' AND '.join(words)} " if words else ""
        query = f"SELECT document FROM jobs {where}ORDER BY number DESC LIMIT {int(limit) + 1}"
        with self._using():
            rows = self._base.execute(query, values).fetchall()
        found = [json.loads(row[0]) for row in rows]
        more = len(found) > limit
        return found[:limit], found[limit - 1]["id"] if more else None

    def unfinished(self) -> list[dict[str, Any]]:
        """Documents that are queued or running, oldest first."""
        with self._using():
            rows = self._base.execute(
                "SELECT document FROM jobs WHERE status IN ('queued', 'running') ORDER BY number"
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def sizes(self) -> list[tuple[str, float, int]]:
        """(id, when it finished in seconds since 1970, bytes) of the finished ones, oldest first."""
        with self._using():
            return self._base.execute(
                "SELECT id, finished, bytes FROM jobs WHERE finished IS NOT NULL ORDER BY finished, number"
            ).fetchall()

    def ids(self) -> set[str]:
        """Every id."""
        with self._using():
            return {row[0] for row in self._base.execute("SELECT id FROM jobs")}

    @contextmanager
    def _using(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise OutputError(f"the list of jobs cannot be used: {error}") from error


def _claim(folder: Path) -> sqlite3.Connection:
    """A lock on the folder that the system gives back when this process ends, however it ends."""
    guard = sqlite3.connect(folder / "in-use.sqlite", check_same_thread=False, isolation_level=None, timeout=0.5)
    try:
        guard.execute("PRAGMA locking_mode=EXCLUSIVE")
        guard.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        guard.close()
        raise UsageError(f"another server uses '{folder}'; stop it, or give this one a folder of its own") from error
    return guard
