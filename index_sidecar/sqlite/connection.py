"""How the file is opened: who may, with which settings, and what is refused.

Never open and close the file here by other means than SQLite's while a connection is open: POSIX takes away all locks
of a process with the first descriptor that it closes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..archive.errors import StoreError
from .migrations import Step, migrate

_BUSY_S = 2.0  # somebody else's transaction may hold up our writes so long
_PRIVATE = 0o600
RESTORE = "put the newest backup in its place (docs/backup.md), or set another DATA_DIR"


@dataclass(frozen=True)
class Schema:
    """The tables of a new file, their version, and the steps that lead older files there."""

    statements: str
    version: int
    steps: Mapping[int, Step]


def open_file(path: Path, schema: Schema) -> sqlite3.Connection:
    """A connection that writes; the file is made or migrated where needed. Raises StoreError, having changed nothing.

    The file, its log and its shared memory are the owner's alone.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE))  # SQLite gives the others the mode of this one
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path} cannot be opened as a store ({error}): {RESTORE}") from error
    try:
        connection.execute("PRAGMA page_size = 16384")  # a row with its vector fills 15 % of it, not 60 % of 4 KB
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found == 0 and tables:
            raise StoreError(f"{path} is a database of another program: set another DATA_DIR")
        if found > schema.version:
            raise StoreError(f"{path} has schema version {found}, this program knows {schema.version}: update it")
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            with contextlib.suppress(FileNotFoundError, PermissionError):  # of another owner: theirs to decide
                each.chmod(_PRIVATE)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")  # what is taken back within a transaction goes to no file
        if found == 0:
            connection.executescript(f"BEGIN; {schema.statements} PRAGMA user_version = {schema.version}; COMMIT;")
        migrate(connection, path, schema.version, schema.steps)
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} cannot be opened as a store ({error}): {RESTORE}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads a file that is open already."""
    connection = connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a file that is there, for any thread, as long as only one uses it at a time."""
    address = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, _BUSY_S, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


class FolderLock:
    """Keeps a second process out of a folder, made when it is not there. Raises StoreError."""

    def __init__(self, folder: Path) -> None:
        try:
            if not folder.exists():
                folder.parent.mkdir(parents=True, exist_ok=True)
                folder.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, _PRIVATE)
        except OSError as error:
            raise StoreError(
                f"the folder {folder} cannot be written ({error}): set DATA_DIR to one that can"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise StoreError(f"another sidecar uses {folder}: stop it, or set another DATA_DIR") from None
        with contextlib.suppress(PermissionError):
            os.fchmod(self._descriptor, _PRIVATE)

    def release(self) -> None:
        """Let the next one in. A second call does nothing: the number may be somebody else's file by then."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
