"""Backups of an archive that is in use: a folder of NAME.sqlite, a whole database, and NAME.json, its manifest.

A backup is the state at one commit. A connection of its own begins to read, which pins that state in the log, and
SQLite's backup copies it in steps: no commit makes it start again, and no writer waits for it. While it lasts no
checkpoint gets past what it reads, so the log grows, and what is erased meanwhile is overwritten when it is done.

Files get their names when they are on the disk, the manifest last: from then on there is a backup. What has no
manifest is what a kill left, and goes with the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from . import rows
from .connection import open_reader
from .disk import size_and_digest, sync
from .manifest import NAME, BackupError, Manifest, new_name, read_manifest
from .staging import ready_mark

_STEP_PAGES = 256  # 4 MB
ROOM_BYTES = 64 << 20
"""Left free on the disk."""

Progress = Callable[[int, int], object]
"""Told after each step: pages left, and pages in all."""


class _Told(NamedTuple):
    """What the database tells of itself."""

    schema_version: int
    fingerprint: str | None
    contents: dict[str, int]


class Backups:
    """The backups in a folder, which is made with the first. Methods raise BackupError, OSError."""

    def __init__(self, folder: Path, step_pages: int = _STEP_PAGES) -> None:
        self.folder = folder
        self._step_pages = step_pages

    def names(self) -> list[str]:
        """All of them, the oldest first."""
        return sorted(path.stem for path in self.folder.glob("*.json") if NAME.fullmatch(path.stem))

    def path(self, name: str) -> Path:
        """The database of a backup."""
        return self.folder / f"{name}.sqlite"

    def make(self, database: Path, keep: int, progress: Progress = lambda left, total: None) -> Manifest:
        """Back up a database, also one that is in use, then drop all but the `keep` newest; 0 keeps all.

        It is on the disk, and was read through, when this returns.
        """
        if not database.is_file() and not ready_mark(database).exists():
            raise BackupError(f"there is no {database}: set DATA_DIR to the folder of the archive")
        with self.alone():
            if ready_mark(database).exists():
                raise BackupError("a restore was cut off: start the sidecar, or restore again, which finishes it")
            self._sweep()
            name = new_name(self.folder)
            try:
                manifest = self._make(database, name, progress)
            except sqlite3.Error as error:
                raise BackupError(f"{database} cannot be copied to {self.folder} ({error})") from error
            finally:
                self._sweep()
            if keep:
                for each in [each for each in self.names() if each != name][: -(keep - 1) or None]:
                    self._manifest(each).unlink()
                self._sweep()
        return manifest

    def verify(self, name: str) -> Manifest:
        """The manifest of a backup that is as it was written, to the last bit, and a database that can be read."""
        if not NAME.fullmatch(name):
            raise BackupError(f"{name!r} is no name of a backup: `python -m index_sidecar verify` lists them")
        try:
            manifest = read_manifest(self._manifest(name))
            size, digest = size_and_digest(self.path(name))
        except FileNotFoundError as error:
            raise BackupError(
                f"{error.filename} is not there: `python -m index_sidecar verify` lists backups"
            ) from None
        if (manifest.name, manifest.size_bytes, manifest.sha256) != (name, size, digest):
            raise BackupError(f"{self.path(name)} is not as it was written: take another backup")
        if _read_through(self.path(name)) != (manifest.schema_version, manifest.fingerprint, manifest.contents):
            raise BackupError(f"{self.path(name)} does not hold what its manifest says: take another backup")
        return manifest

    def _make(self, database: Path, name: str, progress: Progress) -> Manifest:
        copy = self._unfinished(self.path(name))
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._copy(database, copy, progress)
        told = _read_through(copy)
        sync(copy)
        manifest = Manifest(name, *told, *size_and_digest(copy))
        described = self._unfinished(self._manifest(name))
        with open(described, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(manifest.rendered())
        sync(described)
        copy.replace(self.path(name))
        sync(self.folder)
        described.replace(self._manifest(name))
        sync(self.folder)
        return manifest

    def _copy(self, database: Path, copy: Path, progress: Progress) -> None:
        with closing(open_reader(database)) as source, closing(_connect(copy)) as target:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it sees one state
            (pages,), (page_bytes,) = (source.execute(f"PRAGMA page_{each}").fetchone() for each in ("count", "size"))
            needed = pages * page_bytes + ROOM_BYTES
            if shutil.disk_usage(self.folder).free < needed:
                raise BackupError(f"{self.folder} has no room: a backup needs {needed} bytes free")
            target.execute("PRAGMA journal_mode = OFF")  # it is synced as a whole, or thrown away
            target.execute("PRAGMA synchronous = OFF")
            source.backup(target, pages=self._step_pages, progress=lambda _, left, total: progress(left, total))
        with closing(_connect(copy)) as target:
            target.execute("PRAGMA journal_mode = DELETE")  # one file, also while somebody looks into it

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others from making and restoring backups of this folder. Raises BackupError."""
        if not self.folder.exists():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.folder / "backup.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"another backup or restore uses {self.folder}: wait for it") from None
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Unlink what has no manifest."""
        names = set(self.names())
        for path in self.folder.iterdir():
            name, _, kind = path.name.partition("Z.")
            if NAME.fullmatch(f"{name}Z") and (f"{name}Z" not in names or kind not in ("sqlite", "json")):
                path.unlink()
        sync(self.folder)

    def _manifest(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @staticmethod
    def _unfinished(path: Path) -> Path:
        return path.with_name(f"{path.name}.unfinished")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _read_through(path: Path) -> _Told:
    """What a database that nobody uses tells, once all of it was read. Raises BackupError."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise BackupError(f"{path} is damaged ({found})")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            model = connection.execute(rows.MODEL).fetchone()
            counts = dict(connection.execute("SELECT type, count(*) FROM contents GROUP BY type").fetchall())
    except sqlite3.Error as error:
        raise BackupError(f"{path} is no archive that can be read ({error})") from error
    return _Told(version, model[0] if model else None, {"text": 0, "image": 0} | counts)
