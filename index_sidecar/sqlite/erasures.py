"""The journal of erasures: what a backup may still hold and nobody may see again, kept beside the backups.

It names nobody: each record is a number, a kind, and the HMAC of a content's id or of a user, under a key that lies
beside it. It is written and synced before the commit that erases, and the database holds the number of the last record
with that commit. So a start knows which erasures the file that it finds has not seen, be it a backup that was restored
or what a crash left, and does them before anything is served. Nothing is ever taken out of it, for nobody knows how
long somebody keeps a copy of a backup: it grows by 48 bytes with each erasure.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import sqlite3
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from ..archive.errors import StoreError
from . import erasing
from .disk import sync

logger = logging.getLogger(__name__)

Kind = Literal["id", "user"]
_BODY = struct.Struct("<Q4s32s")  # number, kind, HMAC
_RECORD_BYTES = _BODY.size + 4  # and a CRC-32 of these
_KEY_BYTES = 32
_KINDS: dict[Kind, bytes] = {"id": b"id\0\0", "user": b"user"}
_LAST = "SELECT value FROM meta WHERE name = 'erasures'"
_SET = "INSERT INTO meta (name, value) VALUES ('erasures', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_SCAN = "SELECT key, id, user FROM contents WHERE key > ? ORDER BY key LIMIT 10000"
_IDS_A_STEP = 500


class Erased(NamedTuple):
    """Something that was asked to be erased: a content by its id, or all of a user's."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Known:
    """Some records of a journal, and the key to tell what they are of."""

    key: bytes
    ids: set[bytes] = field(default_factory=set)
    users: set[bytes] = field(default_factory=set)

    def names(self, content_id: str, user: str | None) -> bool:
        """Whether a content is among what was erased."""
        if self.ids and _mac(self.key, "id", content_id) in self.ids:
            return True
        return bool(self.users) and user is not None and _mac(self.key, "user", user) in self.users


class Journal:
    """The journal of a folder of backups, for the one database that writes to it."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError, also where another archive uses it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path = folder / "erasures"
            self._key = _key(folder)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            sync(folder)
        except OSError as error:
            raise StoreError(
                f"the journal of erasures in {folder} cannot be opened ({error}): set BACKUP_DIR"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end, self.last = self._look()
        except OSError as error:
            self.close()
            raise StoreError(
                f"the journal of erasures in {folder} is another archive's, or in use ({error}): set another BACKUP_DIR"
            ) from error

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def append(self, connection: sqlite3.Connection, erased: Sequence[Erased]) -> None:
        """On disk, with its number in the transaction that is open. Raises OSError, after which nothing counts."""
        known = _number(connection)
        first = max(self.last, known) + 1
        records = [_record(first + n, each.kind, _mac(self._key, *each)) for n, each in enumerate(erased)]
        data = b"".join(records)
        connection.execute(_SET, (str(first + len(records) - 1),))
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], self._end + written)
        os.fsync(self._file)
        self._pending = len(data), first + len(records) - 1

    def committed(self) -> None:
        """What was appended counts."""
        size, self.last = self._pending
        self._end += size

    def void(self) -> None:
        """What was appended last was not committed: the next takes its place. Raises OSError where it stays there.

        Then a crash has it done by the next start: it was asked for, and nobody was told that it was not done.
        """
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)

    def since(self, number: int) -> Known:
        """What was erased after the erasure of this number."""
        known = Known(self._key)
        size, data = os.fstat(self._file).st_size, b""
        while len(data) < size and (piece := os.pread(self._file, size - len(data), len(data))):
            data += piece
        bad = 0
        for found in _records(data[: self._end]):
            if found is None:
                bad += 1
            elif found[0] > number:
                (known.ids if found[1] == _KINDS["id"] else known.users).add(found[2])
        if bad:
            logger.error("%d records of %s are damaged: what they erased may be in a backup", bad, self._path)
        return known

    def redo(self, connection: sqlite3.Connection) -> int:
        """Erase what the journal has and the database does not know to be erased: how many contents that were.

        Durable when it returns. The caller has the log emptied into the file.
        """
        number = _number(connection)
        if self.last < number:
            logger.warning(
                "%s ends before the archive's last erasure (%d of %d): what was erased since comes back with a backup"
                " from before it",
                *(self._path, self.last, number),
            )
        if self.last <= number:
            return 0
        known, count, after = self.since(number), 0, 0
        connection.execute("BEGIN IMMEDIATE")
        try:
            while page := connection.execute(_SCAN, (after,)).fetchall():
                after = page[-1][0]
                ids = [content_id for _, content_id, user in page if known.names(content_id, user)]
                for first in range(0, len(ids), _IDS_A_STEP):
                    count += len(erasing.delete(connection, ids[first : first + _IDS_A_STEP])[0])
            connection.execute(_SET, (str(self.last),))
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return count

    def _look(self) -> tuple[int, int]:
        """Where the next record goes, behind the last whole one, and the number of that."""
        data = self._path.read_bytes()
        end = last = 0
        for place_, found in enumerate(_records(data), 1):
            if found is not None:
                end, last = place_ * _RECORD_BYTES, found[0]
        if end < len(data):  # what a crash cut off was not committed
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return end, last


def _key(folder: Path) -> bytes:
    path = folder / "erasures.key"
    if not path.exists():
        if (folder / "erasures").exists() and (folder / "erasures").stat().st_size:
            raise StoreError(f"{path} is lost, and without it {folder / 'erasures'} says nothing: put it back")
        unfinished = path.with_name("erasures.key.unfinished")
        unfinished.unlink(missing_ok=True)
        with open(unfinished, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        sync(unfinished)
        unfinished.replace(path)
        sync(folder)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise StoreError(f"{path} is not as it was written: put it back")
    return key


def _mac(key: bytes, kind: Kind, name: str) -> bytes:
    return hmac.digest(key, _KINDS[kind] + name.encode(), hashlib.sha256)


def _record(number: int, kind: Kind, mac: bytes) -> bytes:
    body = _BODY.pack(number, _KINDS[kind], mac)
    return body + zlib.crc32(body).to_bytes(4, "little")


def _records(data: bytes) -> Iterator[tuple[int, bytes, bytes] | None]:
    """Number, kind and HMAC of each whole record; None for one that is damaged."""
    for start in range(0, len(data) - _RECORD_BYTES + 1, _RECORD_BYTES):
        body, crc = data[start : start + _BODY.size], data[start + _BODY.size : start + _RECORD_BYTES]
        yield _BODY.unpack(body) if zlib.crc32(body) == int.from_bytes(crc, "little") else None


def _number(connection: sqlite3.Connection) -> int:
    found = connection.execute(_LAST).fetchone()
    return int(found[0]) if found else 0
