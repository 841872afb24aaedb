"""Fills empty shelves at a start: the store says what there is; vectors come from snapshots, or else from it, too."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..archive.content import ContentType, Heads
from ..archive.ports import VectorSource
from .approximate import ApproximateVectors
from .exact import Rows
from .shelf import Shelf
from .snapshot import Page, Records
from .snapshots import Snapshots

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_ROWS_A_PAGE = 4096


class Stopped(Exception):
    """The sidecar ends before its index is full."""


class IndexLoader:
    """Fills the shelves in one thread, nobody else using them."""

    def __init__(
        self, source: VectorSource, shelves: Mapping[ContentType, Shelf], snapshots: Snapshots, stop: threading.Event
    ) -> None:
        self._source = source
        self._shelves = shelves
        self._snapshots = snapshots
        self._stop = stop

    def load(self) -> None:
        """All contents of the source. Raises Stopped."""
        started = time.monotonic()
        for content_type, shelf in self._shelves.items():
            heads = _Columns(self._until_stopped(self._source.heads(content_type, _ROWS_A_PAGE)))
            records = self._snapshots.open(shelf, len(heads))
            restored = np.empty(0, np.int64) if records is None else self._restore(shelf, heads, records)
            missing = np.ones(len(heads), bool)
            missing[restored] = False
            rest = np.flatnonzero(missing)
            self._read(shelf, heads, rest)
            seconds = time.monotonic() - started
            counts = (len(restored), len(rest))
            logger.info(
                "%s index: %d contents from its snapshot, %d from the store, %.1f s", content_type, *counts, seconds
            )

    def _until_stopped(self, pages: Iterable[_T]) -> Iterator[_T]:
        for page in pages:
            if self._stop.is_set():
                raise Stopped
            yield page

    def _restore(self, shelf: Shelf, heads: _Columns, records: Records) -> Rows:
        """Take what the snapshot has, and erase of it what the store has no more; the numbers of the heads taken."""
        header, snapshot = records.header, records.snapshot
        if header.kind == "approximate":
            shelf.vectors = vectors = ApproximateVectors.from_state(records.state)
            vectors.nprobe, vectors.recall = header.nprobe or 1, header.recall or {}
            vectors.built_rows = header.built_rows
        shelf.snapshots = [snapshot]
        slots = records.find(heads.sha256s)
        wanted = np.argsort(slots, kind="stable")[np.count_nonzero(slots < 0) :]  # in the order of the file
        taken = []
        with ThreadPoolExecutor(1, "index-appender") as appender:  # Faiss, beside all that needs the GIL
            appended = appender.submit(shelf.vectors.reserve, len(wanted))
            for wanted_page, (whole, lists, codes) in self._read_ahead(records, slots, wanted):
                page = wanted_page[whole]
                appended.result()
                appended = appender.submit(shelf.vectors.append_codes, codes[whole], lists[whole])
                snapshot.place(np.arange(len(shelf), len(shelf) + len(page)), slots[page])
                heads.enter(shelf, page)
                taken.append(page)
            appended.result()
        restored = np.concatenate([np.empty(0, np.int64), *taken])
        if damaged := len(wanted) - len(restored):
            logger.warning("%d records of the %s snapshot are damaged: the store is read", damaged, shelf.content_type)
        superfluous: npt.NDArray[np.bool_] = np.any(records.sha256s, axis=1)
        superfluous[slots[restored]] = False
        for slot in np.flatnonzero(superfluous).tolist():
            snapshot.erase(slot)
        self._snapshots.flush()
        return restored

    def _read_ahead(self, records: Records, slots: Rows, wanted: Rows) -> Iterator[tuple[Rows, Page]]:
        """Pages of `wanted` and their records; the next is read and checked while the caller works on one."""
        pages = _paged(wanted)
        with ThreadPoolExecutor(1, "index-reader") as reader:
            ahead = [reader.submit(records.read, slots[page]) for page in pages[:2]]
            for number, page in enumerate(self._until_stopped(pages)):
                read = ahead.pop(0).result()
                if number + 2 < len(pages):
                    ahead.append(reader.submit(records.read, slots[pages[number + 2]]))
                yield page, read

    def _read(self, shelf: Shelf, heads: _Columns, numbers: Rows) -> None:
        numbers = numbers[np.argsort(heads.keys[numbers])]  # in the order of the store's file
        for page in self._until_stopped(_paged(numbers)):
            shelf.vectors.append(self._source.vectors(heads.keys[page].tolist()))
            heads.enter(shelf, page)


def _paged(rows: Rows) -> list[Rows]:
    return [rows[first : first + _ROWS_A_PAGE] for first in range(0, len(rows), _ROWS_A_PAGE)]


class _Columns:
    """The heads of one type as arrays, of which many rows are taken at once."""

    def __init__(self, pages: Iterable[Heads]) -> None:
        keys: list[int] = []
        ids: list[str] = []
        users: list[str | None] = []
        sha256s = bytearray()
        for page in pages:
            keys += page.keys
            ids += page.ids
            users += page.users
            sha256s += b"".join(page.sha256s)
        self.keys = np.array(keys, np.int64)
        self.sha256s = np.frombuffer(sha256s, np.uint8).reshape(-1, 32)
        self._ids = np.array(ids, object)
        self._users = np.array(users, object)

    def __len__(self) -> int:
        return len(self.keys)

    def enter(self, shelf: Shelf, numbers: Rows) -> None:
        """Say of these heads that they are the rows last appended to the shelf's vectors."""
        shelf.enter(self._ids[numbers].tolist(), self._users[numbers].tolist(), self.sha256s[numbers])
