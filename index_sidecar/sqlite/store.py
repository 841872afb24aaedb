"""Store on this machine: contents, their vectors and their previews in one SQLite file.

A write returns when it is on disk. What it took away is in no answer from then on, and is overwritten in the file right
behind: overwriter.py and blocks.py tell how. All vectors of a store are of one model, whose fingerprint is kept once,
in `meta`.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..archive.content import DIMENSION, Content, ContentType, Entry, Page, VectorPage
from ..archive.errors import InvalidInput, ModelMismatch, StoreError
from ..archive.ports import Written
from . import blocks, rows
from .connection import RESTORE, open_reader
from .database import Database
from .reader import Row

# Left to itself, SQLite may take an index that is in another order than asked for, and sort all rows it finds: hence
# INDEXED BY, here and below.
PAGE = f"""
SELECT key, id, user, sha256, {rows.VECTOR} FROM contents INDEXED BY contents_by_type
WHERE type = ? AND key > ? ORDER BY key LIMIT ?
"""
_PUT = """
INSERT INTO contents (id, type, user, sha256, created, truncated, block, preview) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET type = excluded.type, user = excluded.user, sha256 = excluded.sha256,
    created = excluded.created, truncated = excluded.truncated, block = excluded.block, preview = excluded.preview
"""
_SET_MODEL = "INSERT INTO meta (name, value) VALUES ('model', ?) ON CONFLICT (name) DO NOTHING"
_SOME_ROWS = """
SELECT (SELECT max(length(id)) FROM (SELECT id FROM contents ORDER BY key DESC LIMIT 1)),
    (SELECT length(bytes) FROM vectors WHERE block >= abs(random() % (SELECT max(block) FROM vectors)) LIMIT 1)
"""
_SIZE = "SELECT count(*) FROM contents WHERE type = ?"
_SMALLEST = "SELECT min(key) FROM contents INDEXED BY contents_by_bytes WHERE type = ? GROUP BY sha256 LIMIT ?"
_LENGTH = struct.Struct("<I")
_DUPLICATES_NAMED = 100
_IDS_A_READ = 1000
_READ_LIMIT_S = 10.0


class SqliteStore:
    """Contents by id; every method may be called from the event loop. All raise StorageUnavailable."""

    def __init__(self, path: Path, read_limit_s: float = _READ_LIMIT_S) -> None:
        """Opens the file, or makes it. Raises StoreError when it must not be used."""
        self._path = path
        self.folder = path.parent
        self.database = Database(path, rows.SCHEMA, read_limit_s)
        found = self.database.write_connection.execute(rows.MODEL).fetchone()
        self._fingerprint: str | None = found[0] if found else None

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        await self.database.close()

    async def check(self) -> None:
        """Raises StorageUnavailable unless the file is in its place, and some of it can be read now."""
        await self.database.reader.check(_SOME_ROWS)

    def erasures_due(self) -> int:
        """How many contents are erased for everybody who asks, but not yet overwritten in every file."""
        return self.database.erasures_due()

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""
        return self._fingerprint

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        _check_model(self._fingerprint, fingerprint)

    async def put(self, content: Content, preview: bytes | None = None) -> Written:
        """Store a content and its preview, replacing what its id held, which is erased. Durable when it returns."""
        embedding = content.embedding
        head = (content.id, content.type, content.user, content.sha256, content.created, int(embedding.truncated))
        vector = embedding.vector.astype("<f4").tobytes()

        def put(connection: sqlite3.Connection) -> tuple[None, int]:
            connection.execute(_SET_MODEL, (embedding.fingerprint,))
            _check_model(connection.execute(rows.MODEL).fetchone()[0], embedding.fingerprint)
            replaced = connection.execute("SELECT block, preview FROM contents WHERE id = ?", (content.id,)).fetchall()
            _free(connection, replaced)
            (block,) = blocks.take(connection, "vectors", vector)
            shown = None
            if preview is not None:
                shown = json.dumps(blocks.take(connection, "previews", _LENGTH.pack(len(preview)) + preview))
            connection.execute(_PUT, (*head, block, shown))
            return None, len(replaced)

        committed = await self.database.write(put)
        self._fingerprint = embedding.fingerprint
        return Written([], committed.overwritten)

    async def delete(self, content_id: str) -> Written:
        """Erase a content and its preview, if there is one. Durable when it returns."""
        return await self.delete_many([content_id])

    async def delete_many(self, ids: Sequence[str], user: str | None = None) -> Written:
        """Erase contents and their previews, in one commit; with `user`, only those that are this user's."""
        query = """
            DELETE FROM contents WHERE id IN (SELECT value FROM json_each(?)) AND (? IS NULL OR user = ?)
            RETURNING block, preview, id
        """

        def delete(connection: sqlite3.Connection) -> tuple[list[str], int]:
            gone = connection.execute(query, (json.dumps(list(ids)), user, user)).fetchall()
            _free(connection, [row[:2] for row in gone])
            return [row[2] for row in gone], len(gone)

        committed = await self.database.write(delete)
        return Written(committed.result, committed.overwritten)

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""
        found = await self._contents("WHERE id = ?", content_id)
        return found[0] if found else None

    async def get_many(self, ids: Sequence[str]) -> list[Content]:
        """The contents stored under some ids, in the order they were first added."""
        query = f"SELECT key, {rows.CONTENT} FROM contents WHERE id IN (SELECT value FROM json_each(?))"
        found: list[tuple[int, Content]] = []
        for first in range(0, len(ids), _IDS_A_READ):
            some = json.dumps(list(ids[first : first + _IDS_A_READ]))
            found += await self.database.reader.rows(lambda row: (row[0], rows.content(row[1:])), query, some)
        return [content for _, content in sorted(dict(found).items())]

    async def same_bytes(self, sha256: bytes, content_type: ContentType) -> list[Content]:
        """Contents of these bytes, in the order they were first added; at most 100."""
        chosen = f"WHERE type = ? AND sha256 = ? ORDER BY key LIMIT {_DUPLICATES_NAMED}"
        return await self._contents(chosen, content_type, sha256)

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview: a WebP of an image, UTF-8 of a text; None without the one or the other."""
        query = f"""
            WITH shown AS (SELECT {rows.CONTENT}, preview FROM contents WHERE id = ?)
            SELECT bytes, shown.* FROM shown, json_each(shown.preview) AS part JOIN previews ON block = part.value
            ORDER BY part.key
        """
        found = await self.database.reader.rows(lambda row: (row[0], rows.content(row[1:-1])), query, content_id)
        if not found:
            return None
        data = b"".join(piece for piece, _ in found)
        (length,) = _LENGTH.unpack_from(data)
        return found[0][1], data[_LENGTH.size : _LENGTH.size + length]

    async def page(self, user: str | None, content_type: ContentType | None, limit: int, after: str | None) -> Page:
        """The `limit` entries behind the cursor `after`, of one user and one type where they are given.

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
        query = f"SELECT key, {rows.ENTRY} FROM {table} WHERE {chosen} AND key > ? ORDER BY key LIMIT ?"

        def keyed(row: Row) -> tuple[int, Entry]:
            return row[0], rows.entry(row[1:])

        found = await self.database.reader.rows(keyed, query, *values, _key(after), limit + 1)
        more = len(found) > limit
        return Page([entry for _, entry in found[:limit]], str(found[limit - 1][0]) if more else None)

    async def history(self, user: str, content_type: ContentType, limit: int) -> list[Content]:
        """A user's newest contents of one type, newest first."""
        chosen = "INDEXED BY contents_by_age WHERE user = ? AND type = ? ORDER BY created DESC, key DESC LIMIT ?"
        return await self._contents(chosen, user, content_type, limit)

    async def sample(self, content_type: ContentType, limit: int) -> list[Content]:
        """As if drawn by chance, yet always the same: the oldest content of each of the smallest SHA-256 of a type."""
        return await self._contents(f"WHERE key IN ({_SMALLEST}) ORDER BY sha256", content_type, limit)

    async def count(self) -> int:
        """How many contents are stored."""
        return int((await self.database.reader.rows(tuple, "SELECT count(*) FROM contents"))[0][0])

    async def _contents(self, chosen: str, *values: str | bytes | int) -> list[Content]:
        return await self.database.reader.rows(rows.content, f"SELECT {rows.CONTENT} FROM contents {chosen}", *values)

    # For threads, not for the event loop: each over a connection of its own. They raise StoreError.

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
            _, ids, users, sha256s, vectors = zip(*page, strict=True)
            yield VectorPage(ids, users, sha256s, np.frombuffer(b"".join(vectors), "<f4").reshape(-1, DIMENSION))

    def _pages(self, batch: int, query: str, *values: str) -> Iterator[list[Row]]:
        """No read is longer than a page: while one lasts, nothing that was erased can be overwritten."""
        after = 0
        with self._scanning() as connection:
            while True:
                with self.database.scanning:
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


def _check_model(stored: str | None, served: str) -> None:
    if stored not in (None, served):
        raise ModelMismatch(stored or "", served)


def _free(connection: sqlite3.Connection, found: Sequence[Row]) -> None:
    """Erase the vectors and previews in the blocks that rows of `contents` name, as (block, preview)."""
    blocks.free(connection, "vectors", [block for block, _ in found])
    blocks.free(connection, "previews", [block for _, shown in found if shown for block in json.loads(shown)])


def _key(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise InvalidInput("after must be the `next` of the page before", "invalid_after")
    return int(cursor)
