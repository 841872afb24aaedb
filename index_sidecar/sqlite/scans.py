"""Reads of the whole file, for threads and not for the event loop: each by a connection of its own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..archive.content import DIMENSION, Content, ContentType, VectorPage
from ..archive.errors import StoreError
from . import rows
from .connection import RESTORE, open_reader
from .reader import Row

# Left to itself, SQLite may take an index that is in another order than asked for, and sort all rows it finds: hence
# INDEXED BY.
PAGE = f"""
SELECT key, id, user, sha256, {rows.VECTOR} FROM contents INDEXED BY contents_by_type
WHERE type = ? AND key > ? ORDER BY key LIMIT ?
"""
_SIZE = "SELECT count(*) FROM contents WHERE type = ?"


class Scans:
    """All of a store, a page at a time. Every method raises StoreError."""

    def __init__(self, path: Path, lock: threading.Lock) -> None:
        """`lock` is held while a page is read."""
        self._path = path
        self._lock = lock

    def scan(self, batch: int) -> Iterator[list[Content]]:
        """All contents, `batch` at a time, each time as they are at that moment."""
        for page in self._pages(batch, f"SELECT key, {rows.CONTENT} FROM contents WHERE key > ? ORDER BY key LIMIT ?"):
            yield [rows.content(row[1:]) for row in page]

    def size(self, content_type: ContentType) -> int:
        """How many contents of a type there are."""
        with self._scanning() as connection:
            return int(connection.execute(_SIZE, (content_type,)).fetchone()[0])

    def pages(self, content_type: ContentType, batch: int) -> Iterator[VectorPage]:
        """The contents of a type in the order they were first added: what is added again meanwhile can come again."""
        for page in self._pages(batch, PAGE, content_type):
            keys, ids, users, sha256s, vectors = zip(*page, strict=True)
            yield VectorPage(keys, ids, users, sha256s, np.frombuffer(b"".join(vectors), "<f4").reshape(-1, DIMENSION))

    def _pages(self, batch: int, query: str, *values: str) -> Iterator[list[Row]]:
        """No read is longer than a page: while one lasts, nothing that was erased can be overwritten."""
        after = 0
        with self._scanning() as connection:
            while True:
                with self._lock:
                    page = connection.execute(query, (*values, after, batch)).fetchall()
                if not page:
                    return
                after = page[-1][0]
                yield page

    @contextmanager
    def _scanning(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(open_reader(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"{self._path} cannot be read ({error}): {RESTORE}") from error
