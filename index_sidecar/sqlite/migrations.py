"""From each version of the schema to the next, all steps in one transaction, beside a copy of the file as it was.

A step is a function of the connection that changes tables and rows. It must not use `executescript`, which would
commit. What it takes away is overwritten like anything else: blocks.py tells how.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from ..archive.errors import StoreError
from . import metadata, originals
from .disk import sync

logger = logging.getLogger(__name__)

Step = Callable[[sqlite3.Connection], None]


def _add_metadata(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE contents ADD COLUMN metadata TEXT")
    for statement in metadata.SCHEMA.split(";"):
        connection.execute(statement)


def _add_originals(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE contents ADD COLUMN original TEXT")
    for statement in originals.SCHEMA.split(";"):
        connection.execute(statement)


STEPS: Mapping[int, Step] = {1: _add_metadata, 2: _add_originals}
"""The step that leads from a version to the next one."""


def migrate(connection: sqlite3.Connection, path: Path, version: int, steps: Mapping[int, Step]) -> None:
    """Bring the file to the schema's `version`. Raises StoreError, having changed nothing."""
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == version:
        return
    if found > version or any(each not in steps for each in range(found, version)):
        raise StoreError(f"{path} has schema version {found}, this program knows {version}: update it")
    connection.execute("BEGIN IMMEDIATE")  # from here on nobody else writes to the file
    try:
        copy = _copy(path, found)
        for each in range(found, version):
            steps[each](connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{path} cannot be brought from schema version {found} to {version} ({error}); nothing was changed. It"
            " needs room for a copy of itself and as much again"
        ) from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    logger.warning(
        "%s was brought from schema version %d to %d. %s is a copy of it as it was: erase it when all is well, since"
        " what is erased from the archive stays in it",
        *(path, found, version, copy),
    )


def _copy(path: Path, version: int) -> Path:
    """The copy's path, once it is on disk. It appears as a whole or not at all."""
    copy = path.with_name(f"{path.name}.v{version}")
    unfinished = copy.with_name(f"{copy.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        sync(unfinished)
        unfinished.replace(copy)
        sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return copy
