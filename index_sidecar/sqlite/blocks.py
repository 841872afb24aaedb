"""Rows of some thousand bytes that never move, so that what is taken out of them is gone.

When SQLite balances its trees it moves whole rows to other pages and may leave a copy in the unused part of the old
one. `secure_delete` overwrites a row where it is, not where it was, so such a copy outlives it. Hence this: a block is
only ever appended, which moves nothing, or overwritten by as many bytes, which SQLite does in place
(btreeOverwriteCell in its btree.c). A freed block holds zeros until it is taken again.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable

BLOCK_BYTES = 2048
_LENGTH = struct.Struct("<I")


def schema(table: str, block_bytes: int = BLOCK_BYTES) -> str:
    """The statements that make a table of blocks and the list of those that are free."""
    return f"""
CREATE TABLE {table} (block INTEGER PRIMARY KEY, bytes BLOB NOT NULL CHECK (length(bytes) = {block_bytes})) STRICT;
CREATE TABLE free_{table} (block INTEGER PRIMARY KEY) STRICT;
"""


def take(connection: sqlite3.Connection, table: str, data: bytes, block_bytes: int = BLOCK_BYTES) -> list[int]:
    """Write `data`, filled up with zeros, into as many blocks as it needs; their numbers in its order."""
    count = -(-len(data) // block_bytes)
    pick = f"DELETE FROM free_{table} WHERE block IN (SELECT block FROM free_{table} LIMIT ?) RETURNING block"
    blocks = [block for (block,) in connection.execute(pick, (count,)).fetchall()]
    pieces = [data[start : start + block_bytes] for start in range(0, len(data), block_bytes)]
    pieces[-1] = pieces[-1].ljust(block_bytes, b"\x00")
    reused = zip(pieces, blocks, strict=False)
    connection.executemany(f"UPDATE {table} SET bytes = ? WHERE block = ?", reused)
    for piece in pieces[len(blocks) :]:
        block = connection.execute(f"INSERT INTO {table} (bytes) VALUES (?)", (piece,)).lastrowid
        assert block is not None
        blocks.append(block)
    return blocks


def free(connection: sqlite3.Connection, table: str, blocks: Iterable[int]) -> None:
    """Overwrite blocks with zeros and keep them for later."""
    numbers = [(block,) for block in blocks]
    connection.executemany(f"UPDATE {table} SET bytes = zeroblob(length(bytes)) WHERE block = ?", numbers)
    connection.executemany(f"INSERT INTO free_{table} (block) VALUES (?)", numbers)


def joined(table: str, column: str, first: int | None = None) -> str:
    """SQL for the blocks that a column of `contents` lists, or the first of them, in hex: only texts can be joined."""
    some = "" if first is None else f" WHERE part.key < {first}"
    return f"""(SELECT group_concat(piece, '') FROM (
    SELECT hex(bytes) AS piece FROM json_each(contents.{column}) AS part JOIN {table} ON block = part.value{some}
    ORDER BY part.key
))"""


def framed(data: bytes) -> bytes:
    """What tells, when it comes back from blocks, where it ends."""
    return _LENGTH.pack(len(data)) + data


def unframed(pieces: str) -> bytes:
    """What was framed, or as much of it as there is, from what `joined` gives."""
    data = bytes.fromhex(pieces)
    (length,) = _LENGTH.unpack_from(data)
    return data[_LENGTH.size : _LENGTH.size + length]
