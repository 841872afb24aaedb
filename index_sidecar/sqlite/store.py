"""The durable truth: contents, their vectors and their previews in one SQLite file.

A write returns when its row is on disk, and the vector and preview it took away are in no file any more: blocks.py and
database.py tell how.
All vectors of a store are of one model, whose fingerprint is kept once, in `meta`.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..archive.content import DIMENSION, Content, ContentType, Embedding, Heads, Page, Vector
from ..archive.errors import InvalidInput, ModelMismatch
from . import blocks
from .database import Database, Row, connect

_SCHEMA_VERSION = 1
# Keys only grow, also after deletions: a page that ends at a key goes on behind it. What must be gone when it is
# erased is in blocks: `block` is the vector's, `preview` a JSON list of the preview's.
_SCHEMA = f"""
CREATE TABLE contents (
    key       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    type      TEXT NOT NULL CHECK (type IN ('text', 'image')),
    user      TEXT,
    sha256    BLOB NOT NULL CHECK (length(sha256) = 32),
    created   REAL NOT NULL,
    truncated INTEGER NOT NULL,
    block     INTEGER NOT NULL,
    preview   TEXT
) STRICT;
-- Holds all of Heads, so that a restart reads these and not the vectors, which are 20 times as much.
CREATE INDEX contents_by_bytes ON contents (type, sha256, key, user, id);
CREATE INDEX contents_by_type ON contents (type);
CREATE INDEX contents_by_user ON contents (user) WHERE user IS NOT NULL;
CREATE INDEX contents_by_age ON contents (user, type, created) WHERE user IS NOT NULL;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
{blocks.schema("vectors")}{blocks.schema("previews")}"""
VECTOR = "(SELECT bytes FROM vectors WHERE vectors.block = contents.block)"
_COLUMNS = f"id, type, user, sha256, created, truncated, {VECTOR}, (SELECT value FROM meta WHERE name = 'model')"
# Left to itself, SQLite may take an index that is in another order than asked for, and sort all rows it finds: hence
# INDEXED BY, here and below.
HEADS = "SELECT key, id, user, sha256 FROM contents INDEXED BY contents_by_bytes WHERE type = ? ORDER BY sha256"
_PUT = """
INSERT INTO contents (id, type, user, sha256, created, truncated, block, preview) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET type = excluded.type, user = excluded.user, sha256 = excluded.sha256,
    created = excluded.created, truncated = excluded.truncated, block = excluded.block, preview = excluded.preview
"""
_SET_MODEL = "INSERT INTO meta (name, value) VALUES ('model', ?) ON CONFLICT (name) DO NOTHING"
_LENGTH = struct.Struct("<I")
_DUPLICATES_NAMED = 100


class Store:
    """Contents by id; every method may be called from the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = path.parent
        self._database = Database(path, _SCHEMA, _SCHEMA_VERSION)
        self._fingerprint = self._read_fingerprint()

    def _read_fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while there are none."""
        row = self._database.read_connection.execute("SELECT value FROM meta WHERE name = 'model'").fetchone()
        return row[0] if row else None

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        await self._database.close()

    async def check(self) -> None:
        """Nothing to ask for: the file is open."""

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""
        return self._fingerprint

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        if self._fingerprint is not None and self._fingerprint != fingerprint:
            raise ModelMismatch(self._fingerprint, fingerprint)

    async def put(self, content: Content, preview: bytes | None = None) -> None:
        """Store a content and its preview, replacing what its id held, which is erased. Durable when it returns.

        Raises StorageUnavailable.
        """
        embedding = content.embedding
        await self.check_model(embedding.fingerprint)
        self._fingerprint = embedding.fingerprint
        head = (content.id, content.type, content.user, content.sha256, content.created, int(embedding.truncated))
        vector = embedding.vector.astype("<f4").tobytes()

        def put(connection: sqlite3.Connection) -> tuple[None, bool]:
            connection.execute(_SET_MODEL, (embedding.fingerprint,))
            replaced = connection.execute("SELECT block, preview FROM contents WHERE id = ?", (content.id,)).fetchall()
            _free(connection, replaced)
            (block,) = blocks.take(connection, "vectors", vector)
            shown = None
            if preview is not None:
                shown = json.dumps(blocks.take(connection, "previews", _LENGTH.pack(len(preview)) + preview))
            connection.execute(_PUT, (*head, block, shown))
            return None, bool(replaced)

        await self._database.write(put)

    async def delete(self, content_id: str) -> bool:
        """Erase a content and its preview; False when there was none. Durable when it returns.

        Raises StorageUnavailable.
        """
        return bool(await self._delete("id = ?", content_id))

    async def delete_user(self, user: str) -> list[str]:
        """Erase all contents of a user, in one commit; their ids. Durable when it returns."""
        return await self._delete("user = ?", user)

    async def _delete(self, which: str, value: str) -> list[str]:
        def delete(connection: sqlite3.Connection) -> tuple[list[str], bool]:
            query = f"DELETE FROM contents WHERE {which} RETURNING block, preview, id"
            gone = connection.execute(query, (value,)).fetchall()
            _free(connection, [row[:2] for row in gone])
            return [row[2] for row in gone], bool(gone)

        return await self._database.write(delete)

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""
        rows = await self._database.read(f"SELECT {_COLUMNS} FROM contents WHERE id = ?", (content_id,))
        return _content(rows[0]) if rows else None

    async def get_many(self, ids: Sequence[str]) -> list[Content]:
        """The contents stored under some ids, in the order they were first added."""
        query = f"SELECT {_COLUMNS} FROM contents WHERE id IN (SELECT value FROM json_each(?)) ORDER BY key"
        return await self._contents(query, json.dumps(list(ids)))

    async def same_bytes(self, sha256: bytes, content_type: str) -> list[Content]:
        """Contents of these bytes, in the order they were first added; at most 100."""
        query = f"SELECT {_COLUMNS} FROM contents WHERE type = ? AND sha256 = ? ORDER BY key LIMIT {_DUPLICATES_NAMED}"
        return await self._contents(query, content_type, sha256)

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview: a WebP of an image, UTF-8 of a text; None without the one or the other."""
        query = f"""
            WITH shown AS (SELECT {_COLUMNS}, preview FROM contents WHERE id = ?)
            SELECT bytes, shown.* FROM shown, json_each(shown.preview) AS part JOIN previews ON block = part.value
            ORDER BY part.key
        """
        rows = await self._database.read(query, (content_id,))
        if not rows:
            return None
        data = b"".join(row[0] for row in rows)
        (length,) = _LENGTH.unpack_from(data)
        return _content(rows[0][1:-1]), data[_LENGTH.size : _LENGTH.size + length]

    async def page(self, user: str | None, content_type: ContentType | None, limit: int, after: str | None) -> Page:
        """The `limit` contents behind the cursor `after`, of one user and one type where they are given.

        In the order they were first added: whoever follows the cursors sees each content that stays exactly once,
        whatever is added or deleted meanwhile. Raises InvalidInput when `after` is no cursor.
        """
        if user is not None:
            by, chosen, values = "contents_by_user", "user = ? AND (? IS NULL OR type = ?)", [user, *[content_type] * 2]
        elif content_type is not None:
            by, chosen, values = "contents_by_type", "type = ?", [content_type]
        else:
            by, chosen, values = "", "true", []
        table = f"contents INDEXED BY {by}" if by else "contents"
        query = f"SELECT key, {_COLUMNS} FROM {table} WHERE {chosen} AND key > ? ORDER BY key LIMIT ?"
        rows = await self._database.read(query, (*values, _key(after), limit + 1))
        more = len(rows) > limit
        return Page([_content(row[1:]) for row in rows[:limit]], str(rows[limit - 1][0]) if more else None)

    async def history(self, user: str, content_type: ContentType, limit: int) -> list[Content]:
        """A user's newest contents of one type, newest first."""
        table = "contents INDEXED BY contents_by_age"
        query = f"SELECT {_COLUMNS} FROM {table} WHERE user = ? AND type = ? ORDER BY created DESC, key DESC LIMIT ?"
        return await self._contents(query, user, content_type, limit)

    async def sample(self, content_type: ContentType, limit: int) -> list[Content]:
        """Contents of one type as if drawn by chance, yet the same each time: those with the smallest SHA-256."""
        table = "contents INDEXED BY contents_by_bytes"
        query = f"SELECT {_COLUMNS} FROM {table} WHERE type = ? ORDER BY sha256, key LIMIT ?"
        return await self._contents(query, content_type, limit)

    async def count(self) -> int:
        """How many contents are stored."""
        return int((await self._database.read("SELECT count(*) FROM contents", ()))[0][0])

    def scan(self, batch: int) -> Iterator[list[Content]]:
        """All contents, `batch` at a time, over a connection of its own: for a thread, not for the event loop."""
        connection = connect(self._path, _SCHEMA, _SCHEMA_VERSION)
        try:
            cursor = connection.execute(f"SELECT {_COLUMNS} FROM contents ORDER BY key")
            while rows := cursor.fetchmany(batch):
                yield [_content(row) for row in rows]
        finally:
            connection.close()

    def heads(self, content_type: ContentType, batch: int) -> Iterator[Heads]:
        """All contents of a type without their vectors, `batch` at a time, over a connection of its own: for a thread.

        Ordered by their bytes.
        """
        connection = connect(self._path, _SCHEMA, _SCHEMA_VERSION)
        try:
            cursor = connection.execute(HEADS, (content_type,))
            while rows := cursor.fetchmany(batch):
                yield Heads(*zip(*rows, strict=True))
        finally:
            connection.close()

    def vectors(self, keys: Sequence[int]) -> Vector:
        """(len(keys), 512) float32: the vectors of these ascending keys, over a connection of its own: for a thread."""
        connection = connect(self._path, _SCHEMA, _SCHEMA_VERSION)
        try:
            places = ",".join("?" * len(keys))
            rows = connection.execute(
                f"SELECT {VECTOR} FROM contents WHERE key IN ({places}) ORDER BY key", keys
            ).fetchall()
        finally:
            connection.close()
        return np.frombuffer(b"".join(vector for (vector,) in rows), "<f4").reshape(len(keys), DIMENSION)

    async def _contents(self, query: str, *values: Any) -> list[Content]:
        return [_content(row) for row in await self._database.read(query, values)]


def _free(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Erase the vectors and previews in the blocks that rows of `contents` name, as (block, preview)."""
    blocks.free(connection, "vectors", [block for block, _ in rows])
    blocks.free(connection, "previews", [block for _, shown in rows if shown for block in json.loads(shown)])


def _key(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidInput("after must be the `next` of the page before", "invalid_after")
    return int(cursor)


def _content(row: Row) -> Content:
    content_id, content_type, user, sha256, created, truncated, vector, fingerprint = row
    embedding = Embedding(np.frombuffer(vector, "<f4"), fingerprint, bool(truncated))
    return Content(content_id, content_type, user, sha256, created, embedding)
