"""A backup in the place of the archive, which nobody uses meanwhile: as a whole or not at all, wherever it is cut off.

All is made ready in DATA_DIR/restoring: a copy of the backup, verified and of this program's schema. Up to there
nothing has changed. Then the file `ready` is made, which decides: from then on the next start, or the next restore,
brings it to its end. The old database goes aside with its log, of which SQLite would mix pages into the new one, and
with the index's snapshots. It is taken away when the new one is in its place.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from ..archive.errors import StoreError
from .backup import ROOM_BYTES, Backups
from .connection import FolderLock, Schema, open_file
from .disk import size_and_digest, sync
from .manifest import BackupError, Manifest
from .staging import ready_mark, staging_of

logger = logging.getLogger(__name__)

_BESIDE = ("-wal", "-shm", "-journal")
_FILES_AT_ONCE = 2  # as large as the backup: a schema is updated beside a copy


def restore(database: Path, schema: Schema, backups: Backups, name: str) -> Manifest:
    """Put a backup into the place of a database. Raises BackupError, StoreError, OSError, having changed nothing."""
    lock = FolderLock(database.parent)
    try:
        # A backup under way reads the old file, and at its end SQLite may unlink the log by its name: the new file's.
        with backups.alone():
            return _restore(database, schema, backups, name)
    finally:
        lock.release()


def _restore(database: Path, schema: Schema, backups: Backups, name: str) -> Manifest:
    finish(database)
    manifest = backups.verify(name)
    if manifest.schema_version > schema.version:
        raise BackupError(
            f"{name} has schema version {manifest.schema_version}, this program knows {schema.version}: update it"
        )
    try:
        _stage(database, schema, backups.path(name), manifest)
    except BaseException as error:
        finish(database)
        if isinstance(error, sqlite3.Error):
            raise BackupError(f"{name} cannot be restored ({error}); nothing was changed") from error
        raise
    os.close(os.open(ready_mark(database), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    sync(staging_of(database))
    finish(database)
    return manifest


def finish(database: Path) -> None:
    """Bring a restore that was cut off to its end, or take away what it made ready. For who holds the folder's lock.

    Raises StoreError.
    """
    staging = staging_of(database)
    try:
        if not staging.exists():
            return
        if ready_mark(database).exists():
            _replace(database, staging)
            logger.warning("%s is restored from a backup", database)
        shutil.rmtree(staging)
        sync(staging.parent)
    except OSError as error:
        raise StoreError(f"the restore in {staging} cannot be finished ({error}): start again when it can") from error


def _stage(database: Path, schema: Schema, backup: Path, manifest: Manifest) -> None:
    """Make all ready, on the disk."""
    staging = staging_of(database)
    staging.mkdir(mode=0o700)
    needed = _FILES_AT_ONCE * manifest.size_bytes + ROOM_BYTES
    if shutil.disk_usage(staging).free < needed:
        raise BackupError(f"{staging.parent} has no room: this restore needs {needed} bytes free")
    copy = staging / database.name
    shutil.copyfile(backup, copy)
    if size_and_digest(copy) != (manifest.size_bytes, manifest.sha256):
        raise BackupError(f"{copy} is not as {backup} was: look at the disk")
    with closing(open_file(copy, schema)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # all is in the one file
    sync(copy)
    sync(staging)
    sync(staging.parent)


def _replace(database: Path, staging: Path) -> None:
    """Old away, new into its place; from wherever it was cut off: while the new one is staged, what is there is old."""
    new, replaced = staging / database.name, staging / "replaced"
    if not new.exists():
        if not database.exists():
            raise FileNotFoundError(f"neither {new} nor {database} is there")
        return
    replaced.mkdir(mode=0o700, exist_ok=True)
    beside = [database.with_name(database.name + end) for end in _BESIDE]
    for old in (*beside, *database.parent.glob("index-*.*"), database):
        if old.exists():
            old.replace(replaced / old.name)
    sync(replaced)
    sync(database.parent)  # the old log is away before the new file comes
    new.replace(database)
    sync(database.parent)
