"""Reads of the file, one after the other in a thread of their own, each within a time limit."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from .connection import open_reader
from .faults import Faults

_T = TypeVar("_T")
_OPERATIONS_A_LOOK = 10_000  # of SQLite's virtual machine, some 0.1 ms

Row = tuple[Any, ...]


class Reader:
    """The connection that reads; `lock` is held while it does."""

    def __init__(self, path: Path, limit_s: float) -> None:
        self.connection = open_reader(path)
        self.connection.set_progress_handler(self._is_late, _OPERATIONS_A_LOOK)
        self.lock = threading.Lock()
        self._path = path
        self._identity = _identity(path)
        self._limit_s = limit_s
        self._deadline = 0.0
        self._thread = ThreadPoolExecutor(1, "store-reader")
        self._faults = Faults(path, "reads")

    def close(self) -> None:
        """Finish the reads under way."""
        self._thread.shutdown()
        self.connection.close()

    async def rows(self, make: Callable[[Row], _T], query: str, *values: Any) -> list[_T]:
        """What `make` gives, in the reading thread, for each row of a query. Raises StorageUnavailable in time."""
        deadline = time.monotonic() + self._limit_s

        def fetch() -> list[_T]:
            with self.lock:
                self._deadline = deadline
                rows = self.connection.execute(query, values).fetchall()
            try:
                return [make(row) for row in rows]
            except (TypeError, ValueError) as error:
                raise sqlite3.DatabaseError("a row is not as it was written") from error

        try:
            async with asyncio.timeout(self._limit_s):
                found = await asyncio.get_running_loop().run_in_executor(self._thread, fetch)
        except sqlite3.ProgrammingError:
            raise  # a fault of ours
        except TimeoutError as error:
            raise self._faults.failed(TimeoutError(f"a read took longer than {self._limit_s:g} s")) from error
        except sqlite3.Error as error:
            raise self._faults.failed(error) from error
        self._faults.over()
        return found

    async def check(self, query: str) -> None:
        """Raises StorageUnavailable unless the file is in its place, not known to be damaged, and `query` reads it."""
        try:
            same = _identity(self._path) == self._identity
        except OSError as error:
            raise self._faults.failed(error) from error
        if not same:
            raise self._faults.failed(FileNotFoundError("somebody put another file in its place"))
        if self._faults.damaged:
            raise self._faults.failed(sqlite3.DatabaseError("the file is damaged: restore a backup"))
        await self.rows(tuple, query)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
