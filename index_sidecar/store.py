"""The durable truth: contents and their vectors in one SQLite file.

A write returns when its row is on disk (WAL, synchronous=FULL). Writes that arrive while a commit is under way share
the next one, so that an fsync serves many. One thread writes, one reads; WAL lets them do so at the same time.
All vectors of a store are of one model, whose fingerprint is kept once, in `meta`.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .content import DIMENSION, Content, Embedding, Head, ModelMismatch, StorageUnavailable, Vector

logger = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE contents (
    key       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    type      TEXT NOT NULL CHECK (type IN ('text', 'image')),
    user      TEXT,
    sha256    BLOB NOT NULL CHECK (length(sha256) = 32),
    created   REAL NOT NULL,
    truncated INTEGER NOT NULL,
    vector    BLOB NOT NULL CHECK (length(vector) = 2048)
) STRICT;
-- Holds all of a Head, so that a restart reads these and not the vectors, which are 20 times as much.
CREATE INDEX contents_by_bytes ON contents (sha256, type, key, user, id);
CREATE INDEX contents_by_user ON contents (user) WHERE user IS NOT NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_COLUMNS = "id, type, user, sha256, created, truncated, vector, (SELECT value FROM meta WHERE name = 'model')"
HEADS = "SELECT key, id, type, user, sha256 FROM contents INDEXED BY contents_by_bytes ORDER BY sha256"
_PUT = """
INSERT INTO contents (id, type, user, sha256, created, truncated, vector) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET type = excluded.type, user = excluded.user, sha256 = excluded.sha256,
    created = excluded.created, truncated = excluded.truncated, vector = excluded.vector
"""
_SET_MODEL = "INSERT INTO meta (name, value) VALUES ('model', ?) ON CONFLICT (name) DO NOTHING"
_DUPLICATES_NAMED = 100

_Statement = tuple[str, Sequence[Any]]


class StoreError(Exception):
    """The store cannot be opened; the message says why and what to do."""


class Store:
    """Contents by id. Made by `open`; every method may be called from the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = path.parent
        self._lock = _lock_folder(path.parent)
        try:
            self._write_connection = _connect(path)
            self._read_connection = _connect(path)
        except BaseException:
            self._lock.close()
            raise
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._waiting: list[tuple[list[_Statement], asyncio.Future[int]]] = []
        self._flush_task: asyncio.Task[None] | None = None
        self.fingerprint = self._read_fingerprint()

    def _read_fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while there are none."""
        row = self._read_connection.execute("SELECT value FROM meta WHERE name = 'model'").fetchone()
        return row[0] if row else None

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        if self._flush_task is not None:
            await self._flush_task
        self._writer.shutdown()
        self._reader.shutdown()
        self._write_connection.close()
        self._read_connection.close()
        self._lock.close()

    def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise ModelMismatch(self.fingerprint, fingerprint)

    async def put(self, content: Content) -> None:
        """Store a content, replacing what its id held. Durable when it returns. Raises StorageUnavailable."""
        embedding = content.embedding
        self.check_model(embedding.fingerprint)
        self.fingerprint = embedding.fingerprint
        row = (
            *(content.id, content.type, content.user, content.sha256, content.created, int(embedding.truncated)),
            embedding.vector.astype("<f4").tobytes(),
        )
        await self._write([(_SET_MODEL, (embedding.fingerprint,)), (_PUT, row)])

    async def delete(self, content_id: str) -> bool:
        """Forget a content; False when there was none. Durable when it returns. Raises StorageUnavailable."""
        return await self._write([("DELETE FROM contents WHERE id = ?", (content_id,))]) > 0

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""
        rows = await self._read(f"SELECT {_COLUMNS} FROM contents WHERE id = ?", (content_id,))
        return _content(rows[0]) if rows else None

    async def same_bytes(self, sha256: bytes, content_type: str) -> list[Content]:
        """Contents of these bytes, in the order they were first added; at most 100."""
        query = f"SELECT {_COLUMNS} FROM contents WHERE sha256 = ? AND type = ? ORDER BY key LIMIT {_DUPLICATES_NAMED}"
        return [_content(row) for row in await self._read(query, (sha256, content_type))]

    async def count(self) -> int:
        """How many contents are stored."""
        return int((await self._read("SELECT count(*) FROM contents", ()))[0][0])

    def scan(self, batch: int) -> Iterator[list[Content]]:
        """All contents, `batch` at a time, over a connection of its own: for a thread, not for the event loop."""
        connection = _connect(self._path)
        try:
            cursor = connection.execute(f"SELECT {_COLUMNS} FROM contents ORDER BY key")
            while rows := cursor.fetchmany(batch):
                yield [_content(row) for row in rows]
        finally:
            connection.close()

    def heads(self, batch: int) -> Iterator[list[Head]]:
        """All contents without their vectors, ordered by their bytes, over a connection of its own: for a thread."""
        connection = _connect(self._path)
        try:
            cursor = connection.execute(HEADS)
            while rows := cursor.fetchmany(batch):
                yield [Head._make(row) for row in rows]
        finally:
            connection.close()

    def vectors(self, keys: Sequence[int]) -> Vector:
        """(len(keys), 512) float32: the vectors of these ascending keys, over a connection of its own: for a thread."""
        connection = _connect(self._path)
        try:
            places = ",".join("?" * len(keys))
            query = f"SELECT vector FROM contents WHERE key IN ({places}) ORDER BY key"
            rows = connection.execute(query, keys).fetchall()
        finally:
            connection.close()
        return np.frombuffer(b"".join(vector for (vector,) in rows), "<f4").reshape(len(keys), DIMENSION)

    async def _read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        def fetch() -> list[tuple[Any, ...]]:
            return self._read_connection.execute(query, values).fetchall()

        return await asyncio.get_running_loop().run_in_executor(self._reader, fetch)

    async def _write(self, statements: list[_Statement]) -> int:
        """Rows changed by the last statement, once all of them are committed."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done))
        if self._flush_task is None or self._flush_task.done():
            self._flush_task = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        """Commit what waits, then what has gathered meanwhile, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            work = [statements for statements, _ in batch]
            try:
                changed = await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, work)
            except Exception as error:
                # The reason is the operator's business; the caller can only come back later.
                logger.exception("%d writes could not be committed", len(batch))
                failure = StorageUnavailable("the content could not be stored; try again later")
                failure.__cause__ = error
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(failure)
            else:
                for (_, done), count in zip(batch, changed, strict=True):
                    if not done.cancelled():
                        done.set_result(count)

    def _commit(self, batch: list[list[_Statement]]) -> list[int]:
        with self._write_connection:  # one transaction: all of it is on disk, or none
            self._write_connection.execute("BEGIN IMMEDIATE")
            changed = []
            for statements in batch:
                for query, values in statements:
                    count = self._write_connection.execute(query, values).rowcount
                changed.append(count)
            return changed


def _content(row: tuple[Any, ...]) -> Content:
    content_id, content_type, user, sha256, created, truncated, vector, fingerprint = row
    embedding = Embedding(np.frombuffer(vector, "<f4"), fingerprint, bool(truncated))
    return Content(content_id, content_type, user, sha256, created, embedding)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection to the store's file, made when it is not there. Raises StoreError, having changed nothing."""
    advice = "restore it, or set another DATA_DIR"
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened as a store ({error}): {advice}") from error
    try:
        connection.execute("PRAGMA page_size = 16384")  # a row with its vector fills 15 % of it, not 60 % of 4 KB
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version not in (0, _SCHEMA_VERSION):
            raise StoreError(f"{path} has schema version {version}, this program knows {_SCHEMA_VERSION}: update it")
        if version == 0 and tables:
            raise StoreError(f"{path} is a database of another program: {advice}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        if version == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} cannot be opened as a store ({error}): {advice}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def _lock_folder(folder: Path) -> Any:
    """An open file that keeps a second process out of `folder` for as long as it lives. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be written ({error}): set DATA_DIR to one that can") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(f"another sidecar uses {folder}: stop it, or set another DATA_DIR") from None
    return lock
