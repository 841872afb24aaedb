"""One SQLite file: how it is opened, read by one thread, written by another, and what makes a deletion an erasure.

A write returns when it is on disk (WAL, synchronous=FULL). Writes that arrive while a commit is under way share the
next one, so that an fsync serves many.

A deleted row is in three places: the page it is on, which gets zeros in its place; the copies of that
page in the write-ahead log; and the page in the file itself, which the zeros reach with the next checkpoint only. So
a write that takes something away is acknowledged after a checkpoint that also truncates the log. Erasures that arrive
together share it. While a program of somebody else reads the file, no checkpoint can finish, and they wait.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ..archive.errors import StorageUnavailable, StoreError

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_CHECKPOINT_PATIENCE_MS = 100  # while it waits for a reader, nobody can write
_CHECKPOINT_PAUSE_S = 0.2
_COMPLAINT_PAUSE_S = 30.0

Row = tuple[Any, ...]
Write = Callable[[sqlite3.Connection], tuple[_T, bool]]
"""Statements of one transaction, run in the writing thread -> what they give, and whether they took stored bytes away.
"""


class Database:
    """A file with the tables of `schema`, made when it is not there. Raises StoreError when it must not be used."""

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self._lock = _lock_folder(path.parent)
        try:
            self.write_connection = connect(path, schema, version)
            self.read_connection = connect(path, schema, version)
            self.write_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a crash may have cut one off
        except BaseException:
            self._lock.close()
            raise
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(1, "store-reader")
        self._reading = threading.Lock()  # our own reads must not keep a checkpoint waiting
        self._waiting: list[tuple[Write[Any], asyncio.Future[Any]]] = []
        self._erasing: list[tuple[Any, asyncio.Future[Any]]] = []  # committed, but not yet overwritten everywhere
        self._flush_task: asyncio.Task[None] | None = None
        self._complain_at = 0.0
        self._closing = False

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        self._closing = True
        if self._flush_task is not None:
            await self._flush_task
        self._writer.shutdown()
        self._reader.shutdown()
        self.write_connection.close()
        self.read_connection.close()
        self._lock.close()

    async def read(self, query: str, values: Sequence[Any]) -> list[Row]:
        """All rows of a query."""

        def fetch() -> list[Row]:
            with self._reading:
                return self.read_connection.execute(query, values).fetchall()

        return await asyncio.get_running_loop().run_in_executor(self._reader, fetch)

    async def write(self, work: Write[_T]) -> _T:
        """What `work` gives, once it is durable and what it took away is in no file. Raises StorageUnavailable."""
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._flush_task is None or self._flush_task.done():
            self._flush_task = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        """Commit what waits, then what has gathered meanwhile, until nothing does and nothing is left to erase."""
        while self._waiting or self._erasing:
            await self._commit_waiting()
            await self._erase_waiting()

    async def _commit_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        work = [each for each, _ in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, work)
        except Exception as error:
            # The reason is the operator's business; the caller can only come back later.
            logger.exception("%d writes could not be committed", len(batch))
            failure = StorageUnavailable("the content could not be stored; try again later")
            failure.__cause__ = error
            for _, done in batch:
                _fail(done, failure)
            return
        for (_, done), (result, takes_away) in zip(batch, results, strict=True):
            if takes_away:
                self._erasing.append((result, done))
            else:
                _answer(done, result)

    async def _erase_waiting(self) -> None:
        if not self._erasing:
            return
        overwritten = await asyncio.get_running_loop().run_in_executor(self._writer, self._overwrite)
        if not overwritten and not self._closing:
            if time.monotonic() > self._complain_at:
                logger.error("%d erasures wait: does another program read the store's file?", len(self._erasing))
                self._complain_at = time.monotonic() + _COMPLAINT_PAUSE_S
            await asyncio.sleep(_CHECKPOINT_PAUSE_S)
            return
        erased, self._erasing = self._erasing, []
        for result, done in erased:
            if overwritten:
                _answer(done, result)
            else:
                _fail(done, StorageUnavailable("deleted, but copies are left on the disk until the next start"))

    def _commit(self, batch: list[Write[Any]]) -> list[tuple[Any, bool]]:
        with self.write_connection:  # one transaction: all of it is on disk, or none
            self.write_connection.execute("BEGIN IMMEDIATE")
            return [work(self.write_connection) for work in batch]

    def _overwrite(self) -> bool:
        """Whether every page of the log is in the file now, and the log empty."""
        with self._reading:
            self.write_connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_PATIENCE_MS}")
            try:
                ((busy, _, _),) = self.write_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.OperationalError:  # a full disk, or a file that cannot be written any more
                logger.exception("what was deleted could not be overwritten yet")
                return False
            finally:
                self.write_connection.execute("PRAGMA busy_timeout = 30000")
        return bool(busy == 0)


def _answer(done: asyncio.Future[_T], result: _T) -> None:
    if not done.cancelled():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(error)


def connect(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """A connection to the file, made when it is not there. Raises StoreError, having changed nothing."""
    advice = "restore it, or set another DATA_DIR"
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened as a store ({error}): {advice}") from error
    try:
        connection.execute("PRAGMA page_size = 16384")  # a row with its vector fills 15 % of it, not 60 % of 4 KB
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found not in (0, version):
            raise StoreError(f"{path} has schema version {found}, this program knows {version}: update it")
        if found == 0 and tables:
            raise StoreError(f"{path} is a database of another program: {advice}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        if found == 0:
            connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path} cannot be opened as a store ({error}): {advice}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def _lock_folder(folder: Path) -> Any:
    """An open file that keeps a second process out of `folder` for as long as it lives. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise StoreError(f"the folder {folder} cannot be written ({error}): set DATA_DIR to one that can") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(f"another sidecar uses {folder}: stop it, or set another DATA_DIR") from None
    return lock
