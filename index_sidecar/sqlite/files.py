"""The folder of pictures' originals: a file for each SHA-256, 256 folders by its first byte.

The database says which files there are; a file that it does not name is nobody's, and is overwritten and unlinked.
So there is one order for everything: a file is on disk before the commit that names it, and goes after the commit that
names it no more. A crash in between leaves a nameless file, which the next start finds. Files are written in place,
without a name of their own first: a half-written one is nameless, too, and a second copy would be one more to erase.

In this process, who adds a picture holds its file, from before the look whether it is there until after the commit. Who
erases claims it: what is held is not claimed, and what is claimed waits to be held.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..archive.errors import StorageUnavailable
from .disk import sync
from .faults import Faults
from .opened import OpenedFile

_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ROOM_BYTES = 64 << 20  # left free on the disk, so that what is small can be written, and all be erased
_THREADS = 4
_PIECE_BYTES = 1 << 20

Knows = Callable[[bytes], Awaitable[bool]]


class OriginalFiles:
    """Writes, opens and erases the files of one folder, which is made with the first of them."""

    def __init__(self, folder: Path, room_bytes: int = _ROOM_BYTES) -> None:
        self._folder = folder
        self._room_bytes = room_bytes
        self._changed = threading.Condition()
        self._held: Counter[bytes] = Counter()
        self._claimed: set[bytes] = set()
        self._opened: dict[bytes, set[OpenedFile]] = {}
        self._writing_bytes = 0
        self._made: set[Path] = set()
        self._writers = ThreadPoolExecutor(_THREADS, "originals-writer")
        self._readers = ThreadPoolExecutor(_THREADS, "originals-reader")
        self._faults = Faults(folder, "originals")

    def close(self) -> None:
        """Finish what is under way."""
        self._writers.shutdown()
        self._readers.shutdown()

    @contextlib.asynccontextmanager
    async def held(self, sha256: bytes, data: bytes, is_named: Knows) -> AsyncIterator[None]:
        """Within the block the file is on disk, for a commit that names it. Raises StorageUnavailable, StorageFull.

        `is_named` tells whether the database names it already.
        """
        loop = asyncio.get_running_loop()
        if not self._hold(sha256, wait=False):
            await loop.run_in_executor(self._writers, self._hold, sha256, True)
        try:
            try:
                there = not await loop.run_in_executor(self._writers, self._write, sha256, data, os.O_EXCL)
                if there and not await is_named(sha256):  # it may be half written
                    await loop.run_in_executor(self._writers, self._write, sha256, data, 0)
            except OSError as error:
                raise self._faults.failed(error) from error
            self._faults.over()
            yield
        finally:
            with self._changed:
                self._held[sha256] -= 1
                self._held += Counter()  # drops what nobody holds

    def _hold(self, sha256: bytes, wait: bool) -> bool:
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: sha256 not in self._claimed)
            elif sha256 in self._claimed:
                return False
            self._held[sha256] += 1
            return True

    def _write(self, sha256: bytes, data: bytes, flags: int) -> bool:
        """Put the file on disk; with O_EXCL only where there is none: else False.

        Others may write the same bytes to it at the same time.
        """
        path = self._path(sha256)
        self._make(path.parent)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
        except FileExistsError:
            return False
        with open(descriptor, "wb", buffering=0) as file, self._room(len(data)):
            left = memoryview(data)
            while left:
                left = left[file.write(left) or 0 :]
            file.truncate()
            os.fsync(file.fileno())
        sync(path.parent)
        return True

    @contextlib.contextmanager
    def _room(self, size: int) -> Iterator[None]:
        """Have so much room on the disk, beside what others are about to write. Raises OSError."""
        with self._changed:
            free = shutil.disk_usage(self._folder).free - self._writing_bytes
            if free - size < self._room_bytes:
                raise OSError(errno.ENOSPC, "too little room")
            self._writing_bytes += size
        try:
            yield
        finally:
            with self._changed:
                self._writing_bytes -= size

    def _make(self, shard: Path) -> None:
        for folder in (self._folder, shard):
            if folder not in self._made:
                with contextlib.suppress(FileExistsError):
                    folder.mkdir(0o700)
                sync(folder.parent)  # also where another thread has just made it
                self._made.add(folder)

    async def open(self, sha256: bytes) -> OpenedFile | None:
        """The file to read from; None when it is not there. Raises StorageUnavailable."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._open, sha256)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._faults.failed(error) from error

    def lost(self) -> StorageUnavailable:
        """The error where a file should be there and is not."""
        return self._faults.failed(FileNotFoundError("an original is not in its folder"))

    def _open(self, sha256: bytes) -> OpenedFile:
        with self._changed:
            self._changed.wait_for(lambda: sha256 not in self._claimed)
            opened = OpenedFile(self._path(sha256), self._readers, self._faults, lambda: self._closed(sha256, opened))
            self._opened.setdefault(sha256, set()).add(opened)
        return opened

    def _closed(self, sha256: bytes, opened: OpenedFile) -> None:
        with self._changed:
            self._opened[sha256].discard(opened)
            if not self._opened[sha256]:
                del self._opened[sha256]

    def settle(self, sha256: bytes, is_named: Callable[[bytes], bool], lose: Callable[[bytes], None]) -> bool:
        """Make file and database agree: erase what is nameless, `lose` the name of what is not there.

        False while somebody adds the picture. For a thread. Raises OSError.
        """
        with self._changed:
            if self._held[sha256]:
                return False
            self._claimed.add(sha256)
        try:
            path = self._path(sha256)
            named, there = is_named(sha256), path.exists()
            if named and not there:
                lose(sha256)
            elif there and not named:
                with self._changed:
                    for opened in self._opened.get(sha256, ()):
                        opened.erased = True
                _erase(path)
        finally:
            with self._changed:
                self._claimed.discard(sha256)
                self._changed.notify_all()
        return True

    def names(self, shard: int) -> set[bytes]:
        """The SHA-256 sums of the files whose first byte is this."""
        try:
            found = os.listdir(self._folder / f"{shard:02x}")
        except FileNotFoundError:
            return set()
        return {bytes.fromhex(name) for name in found if _NAME.fullmatch(name) and name.startswith(f"{shard:02x}")}

    def exist(self) -> bool:
        """Whether there may be files."""
        return self._folder.is_dir()

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / name[:2] / name


def _erase(path: Path) -> None:
    """Overwrite a file with zeros, on disk, then unlink it, on disk."""
    zeros = bytes(_PIECE_BYTES)
    with path.open("r+b", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size
        while left > 0:
            left -= file.write(memoryview(zeros)[: min(left, len(zeros))]) or 0
        os.fsync(file.fileno())
    path.unlink()
    sync(path.parent)
