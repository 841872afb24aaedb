"""Store on this machine: contents, their vectors, previews and texts in one SQLite file, their pictures beside it.

A write returns when it is on disk. What it took away is in no answer from then on, and is overwritten in the file right
behind: overwriter.py and blocks.py tell how. All vectors of a store are of one model, whose fingerprint is kept once,
in `meta`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..archive.content import Content, ContentType, Page
from ..archive.errors import ModelMismatch
from ..archive.filters import Filter
from ..archive.metadata import Metadata
from ..archive.ports import Written
from . import blocks, erasing, metadata, originals, rows
from .database import Database, TakenAway
from .erasures import Erased
from .files import OriginalFiles
from .kept import KeptOriginals
from .listing import Listing
from .reader import Row
from .scans import Scans
from .selections import Selected, Selections

_PUT = """
INSERT INTO contents (id, type, user, sha256, created, truncated, block, preview, metadata, original)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET type = excluded.type, user = excluded.user, sha256 = excluded.sha256,
    created = excluded.created, truncated = excluded.truncated, block = excluded.block, preview = excluded.preview,
    metadata = excluded.metadata, original = excluded.original
RETURNING key
"""
_SET_MODEL = "INSERT INTO meta (name, value) VALUES ('model', ?) ON CONFLICT (name) DO NOTHING"
_SOME_ROWS = """
SELECT (SELECT max(length(id)) FROM (SELECT id FROM contents ORDER BY key DESC LIMIT 1)),
    (SELECT length(bytes) FROM vectors WHERE block >= abs(random() % (SELECT max(block) FROM vectors)) LIMIT 1)
"""
_SMALLEST = "SELECT min(key) FROM contents INDEXED BY contents_by_bytes WHERE type = ? GROUP BY sha256 LIMIT ?"
_PREVIEW = f"""
SELECT {rows.CONTENT}, preview = '{originals.START}',
    CASE preview WHEN '{originals.START}' THEN {originals.TEXT_START} ELSE {blocks.joined("previews", "preview")} END
FROM contents WHERE id = ? AND preview IS NOT NULL
"""
_DUPLICATES_NAMED = 100
_IDS_A_READ = 1000
_READ_LIMIT_S = 10.0


class SqliteStore(Scans):
    """Contents by id; every method may be called from the event loop. All raise StorageUnavailable."""

    def __init__(self, path: Path, read_limit_s: float = _READ_LIMIT_S, backup_dir: Path | None = None) -> None:
        """Opens the file, or makes it. Raises StoreError when it must not be used.

        With a folder of backups, what is erased stays erased when one of them is restored.
        """
        self.folder = path.parent
        self._is_journaled = backup_dir is not None
        self._files = OriginalFiles(path.parent / "originals")
        self.database = Database(path, rows.SCHEMA, read_limit_s, self._files, backup_dir)
        self.originals = KeptOriginals(self.database, self._files)
        super().__init__(path, self.database.scanning)
        found = self.database.write_connection.execute(rows.MODEL).fetchone()
        self._fingerprint: str | None = found[0] if found else None
        self._selections = Selections(self.database.selecting, metadata.salt_of(self.database.write_connection))
        self._listing = Listing(self.database.reader, self._selections)

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        await self.database.close()
        self._files.close()

    async def check(self) -> None:
        """Raises StorageUnavailable unless the file is in its place, and some of it can be read now."""
        await self.database.reader.check(_SOME_ROWS)

    def erasures_due(self) -> int:
        """How many contents are erased for everybody who asks, but not yet overwritten in every file."""
        return self.database.erasures_due()

    def events(self) -> Mapping[str, int]:
        """Transactions, and the writes that they held."""
        return {"commits": self.database.commits, "writes": self.database.committed}

    async def fingerprint(self) -> str | None:
        """The model all stored vectors are of; None while nothing was ever stored."""
        return self._fingerprint

    async def check_model(self, fingerprint: str) -> None:
        """Raises ModelMismatch unless vectors of this model may be compared with the stored ones."""
        _check_model(self._fingerprint, fingerprint)

    async def put(self, content: Content, preview: bytes | None = None, original: bytes | None = None) -> Written:
        """Store a content, its preview and its original, replacing what its id held, which is erased.

        Durable when it returns. Of a text with an original, the preview is kept as the start of that.
        """
        embedding = content.embedding
        head = (content.id, content.type, content.user, content.sha256, content.created, int(embedding.truncated))
        vector = embedding.vector.astype("<f4").tobytes()

        def put(connection: sqlite3.Connection) -> tuple[int, TakenAway]:
            connection.execute(_SET_MODEL, (embedding.fingerprint,))
            _check_model(connection.execute(rows.MODEL).fetchone()[0], embedding.fingerprint)
            replaced = connection.execute(erasing.HELD, (content.id,)).fetchall()
            erasing.free(connection, replaced)
            (block,) = blocks.take(connection, "vectors", vector)
            listed = None if prepared is None else originals.keep(connection, content.sha256, prepared)
            shown = None
            if preview is not None:
                taken = [] if listed else blocks.take(connection, "previews", blocks.framed(preview))
                shown = json.dumps(taken)
            told = metadata.take(connection, content.metadata)
            (key,) = connection.execute(_PUT, (*head, block, shown, told, listed)).fetchone()
            metadata.enter(connection, key, content.metadata)
            return key, TakenAway(len(replaced), originals.let_go(connection, erasing.pictures(replaced)))

        async with self.originals.preparing(content, original) as prepared:
            committed = await self.database.write(put)
        self._fingerprint = embedding.fingerprint
        self._selections.changed()
        return Written([], committed.overwritten, committed.result)

    async def set_metadata(self, content_id: str, told: Metadata) -> Written | None:
        """Replace a content's metadata, which is erased, durably; None when there is no such content."""

        def change(connection: sqlite3.Connection) -> tuple[bool, TakenAway]:
            found = connection.execute("SELECT key, metadata FROM contents WHERE id = ?", (content_id,)).fetchone()
            if found is None:
                return False, TakenAway()
            key, before = found
            metadata.erase(connection, key, before)
            listed = metadata.take(connection, told)
            connection.execute("UPDATE contents SET metadata = ? WHERE key = ?", (listed, key))
            metadata.enter(connection, key, told)
            return True, TakenAway(int(before is not None))

        committed = await self.database.write(change)
        self._selections.changed()
        return Written([], committed.overwritten) if committed.result else None

    async def delete(self, content_id: str) -> Written:
        """Erase a content and its preview, if there is one. Durable when it returns."""
        return await self.delete_many([content_id])

    async def delete_many(self, ids: Sequence[str], user: str | None = None) -> Written:
        """Erase contents and their previews, in one commit; with `user`, only those that are this user's.

        With a user and no ids, the journal of erasures hears that all of this user's are to go.
        """
        if not ids and (user is None or not self._is_journaled):
            return Written([])
        heard = () if user is None or ids else (Erased("user", user),)

        def delete(connection: sqlite3.Connection) -> tuple[list[str], TakenAway]:
            gone, files = erasing.delete(connection, ids, user)
            return gone, TakenAway(len(gone), tuple(files), (*heard, *(Erased("id", each) for each in gone)))

        committed = await self.database.write(delete)
        self._selections.changed()
        return Written(committed.result, committed.overwritten)

    async def get(self, content_id: str) -> Content | None:
        """The content stored under an id."""
        found = await self._contents("WHERE id = ?", content_id)
        return found[0] if found else None

    async def get_many(self, ids: Sequence[str]) -> list[Content]:
        """The contents stored under some ids, in the order they were first added."""
        query = f"SELECT {rows.CONTENT} FROM contents WHERE id IN (SELECT value FROM json_each(?))"
        found: dict[int, Content] = {}
        for first in range(0, len(ids), _IDS_A_READ):
            some = json.dumps(list(ids[first : first + _IDS_A_READ]))
            found.update(await self.database.reader.rows(lambda row: (row[-1], rows.content(row)), query, some))
        return [content for _, content in sorted(found.items())]

    async def same_bytes(self, sha256: bytes, content_type: ContentType) -> list[Content]:
        """Contents of these bytes, in the order they were first added; at most 100."""
        chosen = f"WHERE type = ? AND sha256 = ? ORDER BY key LIMIT {_DUPLICATES_NAMED}"
        return await self._contents(chosen, content_type, sha256)

    async def preview(self, content_id: str) -> tuple[Content, bytes] | None:
        """A content and its preview: a WebP of an image, UTF-8 of a text; None without the one or the other."""
        found = await self.database.reader.rows(_previewed, _PREVIEW, content_id)
        return found[0] if found else None

    async def select(self, filter: Filter) -> Selected:
        """The keys of what passes a filter now."""
        return await self._selections.select(filter)

    async def page(
        self,
        user: str | None,
        content_type: ContentType | None,
        limit: int,
        after: str | None,
        filter: Filter | None = None,
        newest: bool = False,
    ) -> Page:
        """As listing.py has it."""
        return await self._listing.page(user, content_type, limit, after, filter, newest)

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


def _check_model(stored: str | None, served: str) -> None:
    if stored not in (None, served):
        raise ModelMismatch(stored or "", served)


def _previewed(row: Row) -> tuple[Content, bytes]:
    *told, is_start, pieces = row
    return rows.content(tuple(told)), (originals.read_start if is_start else blocks.unframed)(pieces)
