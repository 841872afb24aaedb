"""One SQLite file: one thread reads it, one selects by filters, one writes, one overwrites what was erased.

A write returns when it is on disk (WAL, synchronous=FULL). Writes that arrive while a commit is under way share the
next one, so that an fsync serves many. What one of them does wrong is undone for itself alone; what is wrong with the
disk fails all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from ..archive.errors import ContentError, StoreError
from .connection import RESTORE, FolderLock, Schema, connect, open_file
from .erasures import Erased, Journal
from .faults import Faults, is_everybodys
from .files import OriginalFiles
from .overwriter import Overwriter
from .reader import Reader
from .restore import finish

_T = TypeVar("_T")


class TakenAway(NamedTuple):
    """How many contents a write took away, and the originals' files that are nameless by it, by their SHA-256."""

    contents: int = 0
    files: tuple[bytes, ...] = ()
    erased: tuple[Erased, ...] = ()
    """What the journal of erasures hears of."""


Work = Callable[[sqlite3.Connection], tuple[_T, TakenAway]]
"""Statements of one transaction, run in the writing thread -> what they give, and what they took away."""


@dataclass(frozen=True, slots=True)
class Committed(Generic[_T]):
    """What a write gave, and, where it took something away, what is done when that is in no file any more."""

    result: _T
    overwritten: Future[None] | None


class Database:
    """A file with the tables of `schema`, made when it is not there. Raises StoreError when it must not be used."""

    def __init__(
        self, path: Path, schema: Schema, read_limit_s: float, files: OriginalFiles, backup_dir: Path | None = None
    ) -> None:
        """With a folder of backups, its journal hears of what is erased."""
        self._lock = FolderLock(path.parent)
        self._journal: Journal | None = None
        try:
            finish(path)
            if backup_dir is not None:
                self._journal = Journal(backup_dir)
            self.write_connection = open_file(path, schema)
            if self._journal is not None:
                self._journal.redo(self.write_connection)
            self.reader = Reader(path, read_limit_s)
            self.selecting = Reader(path, read_limit_s)
            self._writing = threading.Lock()
            self.scanning = threading.Lock()  # held by who reads by a connection of its own
            locks = (self.scanning, self.reader.lock, self.selecting.lock)
            self.overwriter = Overwriter(connect(path), self.write_connection, self._writing, locks, files)
        except BaseException as error:
            self._let_go()
            if isinstance(error, sqlite3.Error):
                raise StoreError(f"{path} cannot be opened as a store ({error}): {RESTORE}") from error
            raise
        self._faults = Faults(path, "writes")
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._waiting: list[tuple[Work[Any], asyncio.Future[Committed[Any]]]] = []
        self._flush_task: asyncio.Task[None] | None = None
        self.commits, self.committed = 0, 0  # transactions, and the writes they held

    async def close(self) -> None:
        """Finish the writes under way and close the file."""
        if self._flush_task is not None:
            await self._flush_task
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.shutdown()
        self.overwriter.close()
        self.reader.close()
        self.selecting.close()
        self.write_connection.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._journal is not None:
            self._journal.close()
        self._lock.release()

    def erasures_due(self) -> int:
        """How many contents are erased for every reader, but not yet overwritten in every file."""
        return self.overwriter.due()

    async def write(self, work: Work[_T]) -> Committed[_T]:
        """What `work` gives, once it is durable. Raises StorageUnavailable, or the ContentError that `work` raises."""
        done: asyncio.Future[Committed[_T]] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        if self._flush_task is None or self._flush_task.done():
            self._flush_task = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        """Commit what waits, then what has gathered meanwhile, until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            work = [each for each, _ in batch]
            outcomes: Sequence[Committed[Any] | Exception]
            try:
                outcomes = await asyncio.get_running_loop().run_in_executor(self._writer, self._commit, work)
            except Exception as error:
                outcomes = [self._faults.failed(error)] * len(batch)
            self.commits, self.committed = self.commits + 1, self.committed + len(batch)
            for (_, done), outcome in zip(batch, outcomes, strict=True):
                if done.cancelled():
                    continue
                if isinstance(outcome, Exception):
                    done.set_exception(outcome)
                else:
                    done.set_result(outcome)

    def _commit(self, batch: Sequence[Work[Any]]) -> list[Committed[Any] | Exception]:
        """The outcome of each, in one transaction. Raises what fails all of them: then nothing has changed."""
        connection = self.write_connection
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                outcomes = [self._try(work) for work in batch]
                taken = [outcome[1] for outcome in outcomes if not isinstance(outcome, Exception)]
                erased = [each for some in taken for each in some.erased]
                with self._journaled(connection, erased):
                    connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        erasures, files = sum(each.contents for each in taken), [file for each in taken for file in each.files]
        overwritten = self.overwriter.add(erasures, files) if erasures else None
        if not all(isinstance(outcome, Exception) for outcome in outcomes):
            self._faults.over()
        return [
            outcome
            if isinstance(outcome, Exception)
            else Committed(outcome[0], overwritten if outcome[1].contents else None)
            for outcome in outcomes
        ]

    @contextlib.contextmanager
    def _journaled(self, connection: sqlite3.Connection, erased: Sequence[Erased]) -> Iterator[None]:
        """Have the journal hold what a commit within the block erases: before it, and only if it comes to pass."""
        if self._journal is None or not erased:
            yield
            return
        try:
            self._journal.append(connection, erased)
            yield
        except BaseException:
            with contextlib.suppress(OSError):  # the next takes its place, or the next start does it
                self._journal.void()
            raise
        self._journal.committed()

    def _try(self, work: Work[_T]) -> tuple[_T, TakenAway] | Exception:
        """What one of a batch gives, or its own failure, after which it has changed nothing."""
        connection = self.write_connection
        connection.execute("SAVEPOINT one_write")
        try:
            result = work(connection)
        except Exception as error:
            if is_everybodys(error) or not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO one_write")
            connection.execute("RELEASE one_write")
            return error if isinstance(error, ContentError) else self._faults.failed(error)
        connection.execute("RELEASE one_write")
        return result
