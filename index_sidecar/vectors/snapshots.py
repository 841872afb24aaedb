"""One snapshot a content type in a folder: when it is worth writing, and how."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from pathlib import Path

from ..archive.content import ContentType
from .approximate import ApproximateVectors
from .builder import InThread
from .disk import Disk
from .shelf import Shelf
from .snapshot import Header, Records, Snapshot

logger = logging.getLogger(__name__)

_ROWS_A_PAGE = 4096
_MISSING_PART = 0.1  # of the rows, from which the snapshot is written anew
_MISSING_PART_AT_THE_END = 0.01
_PAUSE_S = 60.0  # after the disk refused one


class Snapshots:
    """Written from `least_rows` contents on, for below that the store alone is fast enough.

    One is written after a build, when a tenth of the rows is not in it, and at the end when a hundredth is not.
    """

    def __init__(self, disk: Disk, folder: Path, in_thread: InThread, exact_rows: int, least_rows: int) -> None:
        self._disk = disk
        self._folder = folder
        self._in_thread = in_thread
        self._exact_rows = exact_rows
        self._least_rows = least_rows
        self._not_before_s = 0.0
        self.fingerprint: str | None = None  # of the model all vectors are of

    def open(self, shelf: Shelf, rows: int) -> Records | None:
        """What the file says for a shelf that will have `rows` rows; None, and the file is gone, if it is of no use."""
        path = self._path(shelf.content_type)
        for unfinished in path.parent.glob(f"{path.stem}*.tmp"):
            unfinished.unlink()
        try:
            records = Records(self._disk, path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            logger.warning("the snapshot %s cannot be used (%s): it is deleted, and the store is read", path, error)
            path.unlink(missing_ok=True)
            return None
        header = records.header
        fits = rows > self._exact_rows if header.kind == "approximate" else header.dtype == shelf.vectors.dtype
        if fits and (header.fingerprint, header.type) == (self.fingerprint, shelf.content_type):
            return records
        logger.warning("the snapshot %s is of another model or another kind of index: it is deleted", path)
        records.snapshot.close()
        path.unlink(missing_ok=True)
        return None

    def flush(self) -> None:
        """Wait until what was told to the snapshots is on disk. Raises StorageUnavailable."""
        self._disk.flush().result()

    def due(self, shelf: Shelf, at_the_end: bool = False) -> bool:
        """Whether a restart would have to read much from the store."""
        if len(shelf) < self._least_rows or self.fingerprint is None or time.monotonic() < self._not_before_s:
            return False
        built_rows = getattr(shelf.vectors, "built_rows", 0)
        live = sum(each.live for each in shelf.snapshots if each.finished and each.header.built_rows == built_rows)
        return len(shelf) - live > len(shelf) * (_MISSING_PART_AT_THE_END if at_the_end else _MISSING_PART)

    async def write(self, shelf: Shelf) -> None:
        """Write all rows to a new file, a page at a time, while the shelf answers and changes."""
        started, path = time.monotonic(), self._path(shelf.content_type)
        try:
            snapshot = await self._in_thread(lambda: self._begin(shelf))
        except OSError as error:
            self._failed(path, error)
            return
        try:
            first = 0
            while await self._in_thread(lambda: shelf.write_to(snapshot, first, _ROWS_A_PAGE)):  # noqa: B023
                await asyncio.wrap_future(self._disk.flush())
                first += _ROWS_A_PAGE
            await asyncio.wrap_future(self._disk.run(lambda: snapshot.finish(path)))
        finally:  # also when the sidecar ends meanwhile
            await asyncio.shield(asyncio.ensure_future(self._in_thread(lambda: self._end(shelf, snapshot))))
        if snapshot.finished:
            logger.info("snapshot %s: %d rows in %.1f s", path, snapshot.records, time.monotonic() - started)
        else:
            self._failed(path, "the disk refused it")

    def _begin(self, shelf: Shelf) -> Snapshot:
        vectors, state = shelf.vectors, b""
        nprobe, recall, built_rows = None, None, 0
        if isinstance(vectors, ApproximateVectors):
            state, built_rows = vectors.state.tobytes(), vectors.built_rows
            nprobe, recall = vectors.nprobe, vectors.recall
        assert self.fingerprint is not None
        kind, row_bytes = vectors.kind, vectors.codes().shape[1]
        head = (self.fingerprint, shelf.content_type, kind, vectors.dtype, row_bytes, len(state), zlib.crc32(state))
        header = Header(*head, built_rows, nprobe, recall)
        snapshot = Snapshot.create(self._disk, self._path(shelf.content_type), header, state)
        shelf.snapshots.append(snapshot)
        return snapshot

    def _end(self, shelf: Shelf, snapshot: Snapshot) -> None:
        gone = [each for each in shelf.snapshots if (each is not snapshot) == snapshot.finished]
        shelf.snapshots = [each for each in shelf.snapshots if each not in gone]
        for each in gone:
            self._disk.run(each.close if snapshot.finished else each.delete)

    def _failed(self, path: Path, reason: object) -> None:
        logger.warning("the snapshot %s could not be written: %s", path, reason)
        self._not_before_s = time.monotonic() + _PAUSE_S

    def _path(self, content_type: ContentType) -> Path:
        return self._folder / f"index-{content_type}.snapshot"
