"""A picture's original that is being read, which does not keep it from being erased."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path

from ..archive.errors import NotFound
from .faults import Faults


class OpenedFile:
    """Reads a file in threads; who erases it says `erased` first, and from then on nothing of it is read."""

    def __init__(self, path: Path, threads: Executor, faults: Faults, closed: Callable[[], None]) -> None:
        """Raises OSError. `closed` is called once it is."""
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size
        self.erased = False
        self._turn = threading.Lock()  # a descriptor that is closed amid a read may be another file's by then
        self._threads = threads
        self._faults = faults
        self._closed = closed

    async def read(self, start: int, size: int) -> bytes:
        """These bytes. Raises NotFound once it is erased, StorageUnavailable."""
        try:
            data = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, start, size)
            if len(data) != min(size, self.size - start):
                raise OSError("a file is shorter than it was")
        except OSError as error:
            raise self._faults.failed(error) from error
        if self.erased:  # looked at after the read: what was overwritten before it is not given
            raise NotFound("this content was erased meanwhile")
        return data

    def _read(self, start: int, size: int) -> bytes:
        with self._turn:
            return os.pread(self._descriptor, size, start)

    def close(self) -> None:
        """Let go of the file, when a read that is under way has ended; for the event loop, which does not wait."""
        try:
            self._threads.submit(self._close)
        except RuntimeError:  # the store is closed
            self._close()

    def _close(self) -> None:
        with self._turn:
            os.close(self._descriptor)
        self._closed()
