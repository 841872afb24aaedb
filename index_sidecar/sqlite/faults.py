"""What an error of SQLite means to a caller, and when the log hears of it."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import time
from pathlib import Path

from ..archive.errors import StorageFull, StorageUnavailable

logger = logging.getLogger(__name__)

_QUIET_S = 60.0
_ROOM_BYTES = 1 << 20  # an I/O error on a disk with less than this is one of a full disk


class Faults:
    """Errors of one kind of work with the file -> errors for callers; a lasting fault is logged once, and its end."""

    def __init__(self, path: Path, work: str) -> None:
        self._path = path
        self._work = work
        self._told: dict[str, float] = {}
        self._failing = False
        self.damaged = False
        """Whether SQLite ever found the file damaged: that does not mend itself."""

    def failed(self, error: BaseException) -> StorageUnavailable:
        """What callers are told of an error; the reason is the operator's business and goes to the log."""
        full = is_full(error, self._path)
        self.damaged |= _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        reason = "the disk is full" if full else str(error) or type(error).__name__
        now = time.monotonic()
        if now - self._told.get(reason, -_QUIET_S) >= _QUIET_S:
            self._told = {each: at for each, at in self._told.items() if now - at < _QUIET_S} | {reason: now}
            self._failing = True
            logger.error("%s: %s fail: %s", self._path, self._work, reason, exc_info=None if full else error)
        if full:
            return StorageFull("the archive's disk is full; what is stored can still be found")
        return StorageUnavailable("the archive's storage does not answer at the moment; try again later")

    def over(self) -> None:
        """Said after each success."""
        if self._failing:
            self._failing = False
            logger.info("%s: %s succeed again", self._path, self._work)


def is_full(error: BaseException, path: Path) -> bool:
    """Whether there was no room for what should be written."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # Where the shared memory of the log, or a journal of the file system, finds no room, SQLite tells an I/O error.
    code = _code(error)
    return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _room(path) < _ROOM_BYTES)


def is_everybodys(error: BaseException) -> bool:
    """Whether the next write would fail of this, too: a fault of the disk or the file, not of one write."""
    alone = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    return isinstance(error, sqlite3.Error) and not isinstance(error, alone) and _code(error) != sqlite3.SQLITE_CORRUPT


def _code(error: BaseException) -> int:
    """SQLite's primary result code; -1 where it is not SQLite's error."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _room(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return _ROOM_BYTES
