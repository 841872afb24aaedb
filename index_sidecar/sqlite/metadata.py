"""Metadata in the file: in blocks to be shown, in two tables to be searched.

What is shown lies in blocks, which leave nothing behind (blocks.py). The tables that answer filters are trees whose
rows move, so they hold no text: of a value and its name only a hash, keyed by a random number of this file. Numbers
and dates have to be there in their order, as they are, but under such a hash in the place of their name.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3

from ..archive.metadata import Metadata, facts_of, read_metadata, write_metadata
from . import blocks

_BLOCK_BYTES = 256

SCHEMA = f"""{blocks.schema("metadata", _BLOCK_BYTES)}
CREATE TABLE terms (term INTEGER NOT NULL, content INTEGER NOT NULL, PRIMARY KEY (term, content)) STRICT, WITHOUT ROWID;
CREATE TABLE numbers (
    name INTEGER NOT NULL, number ANY NOT NULL, content INTEGER NOT NULL, PRIMARY KEY (name, number, content)
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('salt', lower(hex(randomblob(16))));
"""
COLUMN = blocks.joined("metadata", "metadata")
_SALT = "SELECT value FROM meta WHERE name = 'salt'"


def salt_of(connection: sqlite3.Connection) -> bytes:
    """What keys the hashes of this file."""
    return bytes.fromhex(connection.execute(_SALT).fetchone()[0])


def hash_of(salt: bytes, name: str, term: str) -> int:
    """64 bit of a keyed BLAKE2b: of ten million different terms, two are taken for one with a chance of 1 in 400,000.

    A name has no NUL.
    """
    return int.from_bytes(hashlib.blake2b(f"{name}\0{term}".encode(), key=salt, digest_size=8).digest(), signed=True)


def read(told: str | None) -> Metadata:
    """What COLUMN holds."""
    return read_metadata(blocks.unframed(told)) if told else {}


def take(connection: sqlite3.Connection, metadata: Metadata) -> str | None:
    """Write metadata into blocks: what the column `metadata` shall hold."""
    if not metadata:
        return None
    return json.dumps(blocks.take(connection, "metadata", blocks.framed(write_metadata(metadata)), _BLOCK_BYTES))


def enter(connection: sqlite3.Connection, key: int, metadata: Metadata) -> None:
    """Let filters find a content by its metadata."""
    terms, numbers = _rows(connection, key, metadata)
    connection.executemany("INSERT OR IGNORE INTO terms (term, content) VALUES (?, ?)", terms)
    connection.executemany("INSERT OR IGNORE INTO numbers (name, number, content) VALUES (?, ?, ?)", numbers)


def erase(connection: sqlite3.Connection, key: int, listed: str | None) -> None:
    """Take what the column `metadata` of a content lists out of the blocks and tables."""
    if listed is None:
        return
    told = f"SELECT {COLUMN} FROM (SELECT ? AS metadata) AS contents"
    terms, numbers = _rows(connection, key, read(connection.execute(told, (listed,)).fetchone()[0]))
    connection.executemany("DELETE FROM terms WHERE term = ? AND content = ?", terms)
    connection.executemany("DELETE FROM numbers WHERE name = ? AND number = ? AND content = ?", numbers)
    blocks.free(connection, "metadata", json.loads(listed))


def _rows(
    connection: sqlite3.Connection, key: int, metadata: Metadata
) -> tuple[list[tuple[int, int]], list[tuple[int, int | float, int]]]:
    if not metadata:
        return [], []
    salt, facts = salt_of(connection), facts_of(metadata)
    terms = [(hash_of(salt, name, term), key) for name, term in facts.terms]
    numbers = [(hash_of(salt, name, kind), number, key) for name, kind, number in facts.numbers]
    return terms, numbers
