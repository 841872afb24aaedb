"""Fills a shelf from the store: with what a snapshot has learned, where there is one, or as exact vectors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ..archive.content import ContentType, VectorPage
from ..archive.ports import VectorSource
from .approximate import ApproximateVectors
from .exact import DType
from .rows import prints_of
from .shelf import Shelf
from .snapshot import Snapshot, Snapshots

logger = logging.getLogger(__name__)

_ROWS_A_PAGE = 4096


class Stopped(Exception):
    """The sidecar ends before its index is full."""


class IndexLoader:
    """Makes full shelves, each in the thread that asks for it."""

    def __init__(self, source: VectorSource, dtype: DType, snapshots: Snapshots, stop: threading.Event) -> None:
        self._source = source
        self._dtype = dtype
        self._snapshots = snapshots
        self._stop = stop

    def load(self, content_type: ContentType, exact_rows: int, recall: float) -> Shelf:
        """All contents of a type; approximate if they are many and a snapshot reached the recall. Raises Stopped."""
        started, shelf = time.monotonic(), Shelf(content_type, self._dtype)
        rows = self._source.size(content_type)
        snapshot = self._restore(shelf, recall) if rows > exact_rows else None
        if snapshot is None:
            self._snapshots.delete(content_type)
        self._fill(shelf, snapshot)
        kind, unsaved, seconds = shelf.vectors.kind, shelf.vectors.unsaved, time.monotonic() - started
        logger.info(
            "%s index: %s, %d contents, %d of them unknown to its snapshot, %.1f s",
            *(content_type, kind, len(shelf), unsaved, seconds),
        )
        return shelf

    def _restore(self, shelf: Shelf, recall: float) -> Snapshot | None:
        """Give a shelf the vectors of its snapshot, without rows; None if that is of no use, whatever the reason."""
        try:
            snapshot = self._snapshots.read(shelf.content_type, recall)
            vectors = ApproximateVectors(snapshot.trained)
            if len(snapshot.lists) and not 0 <= snapshot.lists.min() <= snapshot.lists.max() < vectors.lists:
                raise ValueError("it names lists that are not there")
        except FileNotFoundError:
            return None
        except Exception as error:
            logger.warning("the %s snapshot is deleted, and an index built anew: %s", shelf.content_type, error)
            return None
        shelf.vectors = vectors
        return snapshot

    def _fill(self, shelf: Shelf, snapshot: Snapshot | None) -> None:
        """At once: SQLite reads a page, Faiss takes in the one before, and this thread notes whose rows those are."""
        pages = self._source.pages(shelf.content_type, _ROWS_A_PAGE)
        with ThreadPoolExecutor(1, "index-reader") as reader, ThreadPoolExecutor(1, "index-appender") as appender:
            appended: Future[None] | None = None
            for page in _read_ahead(pages, reader):
                if self._stop.is_set():
                    raise Stopped
                page = _unknown(shelf, page)
                prints = prints_of(page.sha256s)
                lists = snapshot.lists_of(prints) if snapshot is not None else None
                if appended is not None:
                    appended.result()
                appended = appender.submit(shelf.vectors.append, page.vectors, lists)
                shelf.enter(page.keys, page.ids, page.users, prints)
            if appended is not None:
                appended.result()


def _unknown(shelf: Shelf, page: VectorPage) -> VectorPage:
    """Without what came before: it was deleted and added again, which whoever fills a shelf beside writes is told."""
    new = [place for place, content_id in enumerate(page.ids) if content_id not in shelf]
    if len(new) == len(page.ids):
        return page
    keys, ids, users, sha256s = page.keys, page.ids, page.users, page.sha256s
    return VectorPage(
        [keys[n] for n in new],
        [ids[n] for n in new],
        [users[n] for n in new],
        [sha256s[n] for n in new],
        page.vectors[new],
    )


def _read_ahead(pages: Iterator[VectorPage], reader: ThreadPoolExecutor) -> Iterator[VectorPage]:
    ahead = [reader.submit(next, pages, None) for _ in range(2)]
    while (page := ahead.pop(0).result()) is not None:
        ahead.append(reader.submit(next, pages, None))
        yield page
