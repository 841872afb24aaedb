"""Taking contents out of the file, with all that they hold in blocks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from . import blocks, metadata, originals
from .reader import Row

_ERASED = "type, sha256, block, preview, original, key, metadata"
HELD = f"SELECT {_ERASED} FROM contents WHERE id = ?"
"""A content as `free` and `pictures` take it."""
_DELETE = f"""
DELETE FROM contents WHERE id IN (SELECT value FROM json_each(?)) AND (? IS NULL OR user = ?) RETURNING {_ERASED}, id
"""


def delete(
    connection: sqlite3.Connection, ids: Sequence[str], user: str | None = None
) -> tuple[list[str], list[bytes]]:
    """Erase contents, only a user's where one is said: the ids that are gone, and the files that are nameless now."""
    found = connection.execute(_DELETE, (json.dumps(list(ids)), user, user)).fetchall()
    gone = [row[:-1] for row in found]
    free(connection, gone)
    return [row[-1] for row in found], list(originals.let_go(connection, pictures(gone)))


def free(connection: sqlite3.Connection, found: Sequence[Row]) -> None:
    """Erase what rows of `contents` name, as HELD has them."""
    blocks.free(connection, "vectors", [block for _, _, block, *_ in found])
    blocks.free(connection, "previews", [block for row in found if row[3] for block in json.loads(row[3])])
    for _, _, _, _, original, key, told in found:
        originals.free(connection, original)
        metadata.erase(connection, key, told)


def pictures(found: Sequence[Row]) -> set[bytes]:
    """The SHA-256 sums of pictures among rows of `contents`."""
    return {sha256 for content_type, sha256, *_ in found if content_type == "image"}
