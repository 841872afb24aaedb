"""The thread that writes snapshots: in the order it was told, one fsync for all that has gathered."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from ..archive.errors import StorageUnavailable

logger = logging.getLogger(__name__)


class Disk:
    """Writes to the files of one folder; may be told from any thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "index-disk")
        self._told = threading.Lock()
        self.told = 0  # writes so far
        self._waiting: list[tuple[DiskFile, int, bytes]] = []

    def close(self) -> None:
        """Finish what was told and end the thread."""
        self._thread.shutdown()

    def write(self, file: DiskFile, offset: int, data: bytes) -> None:
        """Write with the next flush."""
        with self._told:
            self._waiting.append((file, offset, data))
            self.told += 1

    def flush(self) -> Future[None]:
        """Done once all that was told is on disk.

        It fails with StorageUnavailable when a file can neither be written nor deleted.
        """
        return self._thread.submit(self._flush)

    def run(self, work: Callable[[], None]) -> Future[None]:
        """Do `work` after all that was told."""

        def both() -> None:
            self._flush()
            work()

        return self._thread.submit(both)

    def _flush(self) -> None:
        with self._told:
            waiting, self._waiting = self._waiting, []
        failure: StorageUnavailable | None = None
        for file, offset, data in waiting:
            file.attempt(file.write_at, offset, data)
        for file in {file for file, _, _ in waiting}:
            try:
                file.attempt(file.sync)
                file.check_gone()
            except StorageUnavailable as error:
                failure = error
        if failure is not None:
            raise failure


class DiskFile:
    """A file that is deleted when it cannot be written: then it at least holds nothing that should be gone."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path = path
        self.usable = True  # it is there and holds all that was written
        self._file = file

    def write_at(self, offset: int, data: bytes) -> None:
        """Raises OSError."""
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[done:], offset + done

    def sync(self) -> None:
        """Raises OSError."""
        os.fdatasync(self._file.fileno())

    def attempt(self, work: Callable[..., None], *arguments: object) -> None:
        """Do it, unless that failed before; when the disk refuses, delete the file."""
        if not self.usable:
            return
        try:
            work(*arguments)
        except OSError as error:
            logger.error("the snapshot %s cannot be written (%s): deleting it", self.path, error)
            self.delete()

    def delete(self) -> None:
        """Not usable any more; `check_gone` tells whether it could be deleted."""
        self.usable = False
        self._file.close()
        try:
            self.path.unlink(missing_ok=True)
            sync_folder(self.path.parent)
        except OSError as error:
            logger.error("%s cannot be deleted: %s", self.path, error)

    def check_gone(self) -> None:
        """Raises StorageUnavailable when the file is of no use any more and still there."""
        if not self.usable and self.path.exists():
            raise StorageUnavailable("the erasure did not reach the disk; try again later")

    def rename(self, path: Path) -> None:
        """Take this name, durably, also from another file. Raises OSError."""
        self.path.rename(path)
        self.path = path
        sync_folder(path.parent)

    def close(self) -> None:
        """Nothing is written any more."""
        self._file.close()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
