"""Originals in the file: texts, compressed, in blocks; and of which pictures there is a file in the folder (files.py).

A text's blocks are its content's alone. A picture's file is shared by all contents with its bytes, and goes with the
last of them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..archive.content import Content, preview_of_text
from . import blocks

_BLOCK_BYTES = 256
_AT_ONCE_BYTES = 1 << 13  # compressed in 0.2 ms: more than that would hold up the event loop
_RAW = -zlib.MAX_WBITS  # without a checksum: the content has the SHA-256 of its bytes
_LEVEL = 6
_START_BLOCKS = 16  # however badly it is compressed, 4,096 bytes hold the 2,000 that a preview is made of

SCHEMA = f"""{blocks.schema("originals", _BLOCK_BYTES)}
CREATE TABLE original_files (sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32), bytes INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
CREATE TABLE original_bytes (type TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
INSERT INTO original_bytes (type, bytes) VALUES ('text', 0), ('image', 0);
"""
START = "[]"
"""In the column `preview` of a text: what is shown of it is the start of its original."""
TEXT = blocks.joined("originals", "original")
TEXT_START = blocks.joined("originals", "original", _START_BLOCKS)
FILE_BYTES = (
    "(SELECT bytes FROM original_files WHERE contents.type = 'image' AND original_files.sha256 = contents.sha256)"
)
KEPT = "SELECT type, bytes FROM original_bytes"
FILE = "SELECT 1 FROM original_files WHERE sha256 = ?"
FILES = "SELECT sha256 FROM original_files WHERE sha256 BETWEEN ? AND ?"
ANY_FILE = "SELECT 1 FROM original_files LIMIT 1"
LACKING = f"SELECT 1 FROM contents WHERE id = ? AND original IS NULL AND {FILE_BYTES} IS NULL"
_TO_GIVE = "SELECT preview FROM contents WHERE id = ? AND type = ? AND sha256 = ? AND original IS NULL"
_HOLD = "INSERT INTO original_files (sha256, bytes) VALUES (?, ?) ON CONFLICT (sha256) DO NOTHING"
_LET_GO = """
DELETE FROM original_files WHERE sha256 = :sha256 AND NOT EXISTS (
    SELECT 1 FROM contents WHERE type = 'image' AND contents.sha256 = :sha256
) RETURNING bytes
"""
_COUNT = "UPDATE original_bytes SET bytes = bytes + ? WHERE type = ?"


@dataclass(frozen=True, slots=True)
class Prepared:
    """An original on its way into the file: a text compressed, or the size of a picture whose file is there."""

    text: bytes = b""
    file_bytes: int = 0


async def compressed(text: bytes) -> Prepared:
    """A text as it is kept."""
    if len(text) <= _AT_ONCE_BYTES:
        return _compressed(text)
    return await asyncio.to_thread(_compressed, text)


def _compressed(text: bytes) -> Prepared:
    return Prepared(zlib.compress(text, _LEVEL, _RAW))


def read(pieces: str) -> bytes:
    """The text whose blocks TEXT gives. Raises ValueError where they are not as they were written."""
    try:
        return zlib.decompress(blocks.unframed(pieces), _RAW)
    except zlib.error as error:
        raise ValueError(str(error)) from None


def read_start(pieces: str) -> bytes:
    """The preview of the text whose first blocks TEXT_START gives."""
    try:
        start = zlib.decompressobj(_RAW).decompress(blocks.unframed(pieces), 4096)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return preview_of_text(start)


def keep(connection: sqlite3.Connection, sha256: bytes, original: Prepared) -> str | None:
    """Have the file hold an original: what the column `original` shall hold."""
    if original.file_bytes:
        if connection.execute(_HOLD, (sha256, original.file_bytes)).rowcount:
            connection.execute(_COUNT, (original.file_bytes, "image"))
        return None
    taken = blocks.take(connection, "originals", blocks.framed(original.text), _BLOCK_BYTES)
    connection.execute(_COUNT, (len(taken) * _BLOCK_BYTES, "text"))
    return json.dumps(taken)


def give(connection: sqlite3.Connection, content: Content, original: Prepared) -> None:
    """Have a content that lacks it, if it is still the same, its original; a text's preview is in that from then on."""
    found = connection.execute(_TO_GIVE, (content.id, content.type, content.sha256)).fetchone()
    if found is None:
        return
    listed = keep(connection, content.sha256, original)
    if listed is not None:
        (shown,) = found
        blocks.free(connection, "previews", json.loads(shown or "[]"))
        change = "UPDATE contents SET original = ?, preview = ? WHERE id = ?"
        connection.execute(change, (listed, None if shown is None else START, content.id))


def free(connection: sqlite3.Connection, listed: str | None) -> None:
    """Erase a text that the column `original` lists."""
    if listed is not None:
        taken = json.loads(listed)
        blocks.free(connection, "originals", taken)
        connection.execute(_COUNT, (-len(taken) * _BLOCK_BYTES, "text"))


def let_go(connection: sqlite3.Connection, sums: Iterable[bytes]) -> tuple[bytes, ...]:
    """Of pictures whose contents have gone: those of which no content is left, and whose file goes, too."""
    gone = []
    for sha256 in sums:
        for (size,) in connection.execute(_LET_GO, {"sha256": sha256}).fetchall():
            connection.execute(_COUNT, (-size, "image"))
            gone.append(sha256)
    return tuple(gone)


def lose(connection: sqlite3.Connection, sha256: bytes) -> None:
    """The file of a picture is not there any more: its contents lack their original."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        query = "DELETE FROM original_files WHERE sha256 = ? RETURNING bytes"
        for (size,) in connection.execute(query, (sha256,)).fetchall():
            connection.execute(_COUNT, (-size, "image"))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
