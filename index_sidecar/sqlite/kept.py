"""Originals of contents: texts in the database, pictures in the folder beside it, through one door."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Mapping

from ..archive.content import Content, ContentType
from ..archive.originals import KeptText
from ..archive.ports import Kept, Written
from . import originals, rows
from .database import Database, TakenAway
from .files import OriginalFiles
from .reader import Row

_ORIGINAL = f"SELECT {rows.CONTENT}, {originals.TEXT}, {originals.FILE_BYTES} FROM contents WHERE id = ?"
_LOOKS = 3
_SETTLE_S = 2.0


class KeptOriginals:
    """Prepares, gives and opens them. All raise StorageUnavailable."""

    def __init__(self, database: Database, files: OriginalFiles) -> None:
        self._database = database
        self._files = files

    @contextlib.asynccontextmanager
    async def preparing(self, content: Content, original: bytes | None) -> AsyncIterator[originals.Prepared | None]:
        """Within the block an original is ready for the commit that names it."""
        if original is None:
            yield None
        elif content.type == "text":
            yield await originals.compressed(original)
        else:
            try:
                async with self._files.held(content.sha256, original, self._is_named):
                    yield originals.Prepared(file_bytes=len(original))
            except BaseException:
                self._database.overwriter.add(0, [content.sha256])  # what was written may be nobody's
                raise

    async def _is_named(self, sha256: bytes) -> bool:
        return bool(await self._database.reader.rows(tuple, originals.FILE, sha256))

    async def lacks(self, content_id: str) -> bool:
        """Whether a content is stored without its original."""
        return bool(await self._database.reader.rows(tuple, originals.LACKING, content_id))

    async def give(self, content: Content, original: bytes) -> None:
        """Have a stored content, as long as it has these bytes, its original. Durable when it returns."""
        async with self.preparing(content, original) as prepared:
            ready = prepared or originals.Prepared()

            def give(connection: sqlite3.Connection) -> tuple[None, TakenAway]:
                originals.give(connection, content, ready)
                return None, TakenAway()

            await self._database.write(give)

    async def open(self, content_id: str) -> tuple[Content, Kept] | None:
        """A content and its original, which whoever gets it closes; None without the one or the other."""
        for _ in range(_LOOKS):
            found = await self._database.reader.rows(_read, _ORIGINAL, content_id)
            if not found:
                return None
            content, text, is_file = found[0]
            if text is not None:
                return content, KeptText(text)
            if not is_file:
                return None
            opened = await self._files.open(content.sha256)
            if opened is not None:
                return content, opened
            # It was erased after the look, or somebody took the file away: then the content lacks it from now on.
            settled = self._database.overwriter.add(0, [content.sha256])
            await Written([], settled).is_overwritten(_SETTLE_S)
        raise self._files.lost()

    async def size_bytes(self) -> Mapping[ContentType, int]:
        """What the originals of each type take on the disk; a picture that several contents have counts once."""
        found: list[tuple[ContentType, int]] = await self._database.reader.rows(tuple, originals.KEPT)
        return dict(found)


def _read(row: Row) -> tuple[Content, bytes | None, bool]:
    *told, pieces, file_bytes = row
    return rows.content(tuple(told)), None if pieces is None else originals.read(pieces), file_bytes is not None
