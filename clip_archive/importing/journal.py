"""What an import has done, beside what it imports: so that it goes on where it was, and sends only what is new.

An entry is written after the archive has answered. What a kill takes away is sent once more, and changes nothing.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from .items import Bad, Found, ImportFailure

Status = Literal["done", "permanent", "transient", "seen"]
NAME = ".clip-archive-import.sqlite"
_COMMIT_S = 0.5
_SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    archive  TEXT NOT NULL,
    id       TEXT NOT NULL,
    root     TEXT NOT NULL,
    place    TEXT NOT NULL,
    mtime_ns INTEGER NOT NULL,
    size     INTEGER NOT NULL,
    said     BLOB NOT NULL,
    sha256   BLOB,
    status   TEXT NOT NULL,
    reason   TEXT,
    letter   BLOB,
    run      INTEGER NOT NULL,
    PRIMARY KEY (archive, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_run ON items (archive, run, status);
"""
_PUT = "INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Entry(msgspec.Struct, frozen=True):
    """What is known of an id."""

    place: str
    mtime_ns: int
    size: int
    said: bytes
    sha256: bytes | None
    status: Status
    run: int

    def is_of(self, found: Found) -> bool:
        """Whether it looks as it did."""
        return (self.mtime_ns, self.size, self.said) == (found.mtime_ns, found.size, found.said)


class Journal:
    """Of one archive; for several threads."""

    def __init__(self, path: Path, archive: str) -> None:
        """Raises ImportFailure where the file cannot be opened, or another import has it open."""
        self._archive = archive
        self._lock = threading.Lock()
        self._committed = time.monotonic()
        try:
            self._connection = sqlite3.connect(path, timeout=0.2, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = TRUNCATE")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("BEGIN IMMEDIATE")
            (last,) = self._connection.execute("SELECT coalesce(max(run), 0) FROM items").fetchone()
        except sqlite3.OperationalError as error:
            busy = "locked" in str(error)
            why = "another import is using it" if busy else f"{error}: name another place by --journal"
            raise ImportFailure(f"the journal {path}: {why}") from None
        except sqlite3.DatabaseError as error:
            raise ImportFailure(f"the journal {path} is damaged ({error}): delete it; all is then compared") from None
        self.run = int(last) + 1

    def close(self) -> None:
        """Keep all, and let go of the file."""
        with self._lock:
            self._connection.execute("COMMIT")
            self._connection.close()

    def get(self, content_id: str) -> Entry | None:
        """What is known of an id."""
        query = "SELECT place, mtime_ns, size, said, sha256, status, run FROM items WHERE archive = ? AND id = ?"
        with self._lock:
            row = self._connection.execute(query, (self._archive, content_id)).fetchone()
        return None if row is None else Entry(*row)

    def seen(self, found: Found, root: str) -> None:
        """It is still there, and as it was."""
        change = "UPDATE items SET run = ?, root = ?, place = ?, mtime_ns = ?, size = ? WHERE archive = ? AND id = ?"
        told = self.run, root, found.place, found.mtime_ns, found.size, self._archive, found.id
        self._write(change, told)

    def put(self, found: Found, root: str, sha256: bytes | None, status: Status, reason: str | None = None) -> None:
        """What became of a content."""
        letter = None if status == "done" else msgspec.json.encode(found.letter)
        head = self._archive, found.id, root, found.place, found.mtime_ns, found.size, found.said
        self._write(_PUT, (*head, sha256, status, reason, letter, self.run))

    def put_bad(self, bad: Bad, root: str) -> None:
        """What is no content."""
        head = self._archive, f"\x00{bad.place}", root, bad.place, 0, 0, b"", None
        self._write(_PUT, (*head, "permanent", bad.reason, msgspec.json.encode(bad.letter), self.run))

    def failed(self) -> Iterator[dict[str, object]]:
        """Each content of this run that is not in the archive, as a row that `import` reads, with its reason."""
        query = (
            "SELECT letter, reason, place, status FROM items WHERE archive = ? AND run = ? AND status != 'done'"
            " AND status != 'seen' ORDER BY id"
        )
        for letter, reason, place, status in self._rows(query, self._archive, self.run):
            told = {"place": place, "error": reason, "again": status == "transient"}
            yield dict(msgspec.json.decode(letter or b"{}")) | told

    def gone(self, root: str) -> Iterator[str]:
        """The ids of what an earlier run brought from `root`, and this one has not found."""
        query = "SELECT id FROM items WHERE archive = ? AND root = ? AND run < ? AND unicode(id) > 0 ORDER BY id"
        for (content_id,) in self._rows(query, self._archive, root, self.run):
            yield content_id

    def forget(self, content_id: str) -> None:
        """It is no more in the archive."""
        self._write("DELETE FROM items WHERE archive = ? AND id = ?", (self._archive, content_id))

    def commit(self) -> None:
        """Keep what was written until now."""
        with self._lock:
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")
            self._committed = time.monotonic()

    def _write(self, change: str, values: tuple[object, ...]) -> None:
        with self._lock:
            self._connection.execute(change, values)
        if time.monotonic() - self._committed > _COMMIT_S:
            self.commit()

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """A piece at a time, for there may be many."""
        first = 0
        while True:
            with self._lock:
                rows = self._connection.execute(f"{query} LIMIT 500 OFFSET {first}", values).fetchall()
            yield from rows
            first += len(rows)
            if len(rows) < 500:
                return
