"""VectorIndex on Faiss: each content type is searched exactly, and approximately once it has grown too large for that.

Who may do what, and when: one thread owns all shelves. Faiss wants mutations and searches to exclude each other, and
calls take effect in the order they were made; a thread with a queue gives both without a lock. Searches share: those
that gather while the thread is busy are answered as one batch, which is one matrix product on all cores. Every call
hands the thread a bounded piece of work, so the event loop itself never works on vectors: Faiss lets go of the GIL,
and what Python does between is done within milliseconds. Loading, too, is done in that thread. Of others, those that
exact.py shares a search out to read only while that thread waits for them; the builder's and the disk's work
on copies they are handed and never touch a shelf.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..archive.content import CONTENT_TYPES, Content, ContentType, Hit, IndexState, Vector
from ..archive.ports import VectorSource
from .builder import IndexBuilder
from .disk import Disk
from .exact import DType
from .loader import IndexLoader
from .shelf import Query, Shelf
from .snapshots import Snapshots

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Waiting = tuple[Query, "asyncio.Future[list[Hit]]"]
_MOST_QUERIES_A_BATCH = 128
_PAUSE_S = 60.0  # after a failure


class FaissIndex:
    """Cosine search over unit vectors, in memory, with snapshots in `folder`."""

    def __init__(self, folder: Path, dtype: DType, exact_rows: int, recall: float, snapshot_rows: int) -> None:
        """Up to `exact_rows` contents of a type are searched exactly, more only if `recall` cannot be reached."""
        self._thread = ThreadPoolExecutor(1, "index")
        self._disk = Disk()
        self._shelves = {content_type: Shelf(content_type, dtype) for content_type in CONTENT_TYPES}
        self._builder = IndexBuilder(self._shelves, self._in_thread, exact_rows, recall)
        self._snapshots = Snapshots(self._disk, folder, self._in_thread, exact_rows, snapshot_rows)
        self._waiting: dict[ContentType, list[_Waiting]] = {content_type: [] for content_type in CONTENT_TYPES}
        self._stop = threading.Event()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def load(self, source: VectorSource) -> None:
        """Fill the empty index with all that `source` holds, and keep it in shape from then on."""
        self._snapshots.fingerprint = await source.fingerprint()
        loader = IndexLoader(source, self._shelves, self._snapshots, self._stop)
        await self._in_thread(loader.load)
        self._changed.set()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Finish the calls under way, write the snapshots that are worth it, and end the threads."""
        self._stop.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            for shelf in self._shelves.values():
                if self._snapshots.due(shelf, at_the_end=True):
                    try:
                        await self._snapshots.write(shelf)
                    except Exception:
                        logger.exception("no %s snapshot; the next start reads the store", shelf.content_type)
        await asyncio.to_thread(self._end_threads)

    def _end_threads(self) -> None:
        self._thread.shutdown()
        self._disk.close()
        self._builder.close()
        for shelf in self._shelves.values():
            for snapshot in shelf.snapshots:
                snapshot.close()

    async def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""
        return len(self._shelves[content_type])

    async def state(self, content_type: ContentType) -> IndexState:
        """How the contents of one type are searched at the moment."""
        shelf = self._shelves[content_type]
        finished = {snapshot.finished for snapshot in shelf.snapshots}
        return IndexState(
            shelf.vectors.kind,
            len(shelf),
            shelf.vectors.memory_bytes,
            shelf.vectors.nprobe,
            shelf.vectors.recall or self._builder.refused(content_type),
            self._builder.progress(content_type),
            "writing" if False in finished else "written" if finished else "none",
        )

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""
        latest = list({content.id: content for content in contents}.values())
        if latest:
            self._snapshots.fingerprint = latest[-1].embedding.fingerprint

        def upsert() -> None:
            for content_type, shelf in self._shelves.items():
                for content in latest:
                    if content_type != content.type:
                        shelf.delete(content.id)
                shelf.upsert([content for content in latest if content.type == content_type])

        await self._change(upsert)

    async def delete(self, content_id: str) -> None:
        """Take a content out of memory and snapshots, durably; nothing happens when it is not there.

        Raises StorageUnavailable when the disk takes neither the erasure nor the deletion of the whole snapshot.
        """

        def delete() -> None:
            for shelf in self._shelves.values():
                shelf.delete(content_id)

        await self._change(delete)

    async def search(self, query: Vector, k: int, content_type: ContentType, without_user: str | None) -> list[Hit]:
        """The k most similar contents of one type that are not `without_user`'s, best first, ties by id."""
        done: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[content_type]
        waiting.append((Query(query, k, without_user), done))
        # Not awaited: its own job may come long after the one that answers it, and a caller that waited for that would
        # never be there when the next batch gathers.
        self._thread.submit(self._search_waiting, content_type)
        return await done

    def _search_waiting(self, content_type: ContentType) -> None:
        """Answer every query that waits now; runs in the thread, and finds nothing to do if one before it did."""
        waiting = self._waiting[content_type]
        batch = waiting[:_MOST_QUERIES_A_BATCH]
        del waiting[: len(batch)]
        if not batch:
            return
        loop = batch[0][1].get_loop()
        try:
            answers = self._shelves[content_type].search([query for query, _ in batch])
        except BaseException as error:
            for _, done in batch:
                loop.call_soon_threadsafe(_fail, done, error)
            return
        for (_, done), hits in zip(batch, answers, strict=True):
            loop.call_soon_threadsafe(_answer, done, hits)

    async def _change(self, work: Callable[[], None]) -> None:
        """Change the shelves, and return when the snapshots hold nothing of what is gone."""

        def change() -> Future[None] | None:
            told = self._disk.told
            work()
            return self._disk.flush() if self._disk.told > told else None

        flushed = await self._in_thread(change)
        self._changed.set()
        if flushed is not None:
            await asyncio.wrap_future(flushed)

    async def _keep(self) -> None:
        """Build and write snapshots, one thing at a time, whenever changes make that necessary."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for content_type, shelf in self._shelves.items():
                try:
                    if self._builder.needed(content_type):
                        await self._builder.build(content_type)
                    if self._snapshots.due(shelf):
                        await self._snapshots.write(shelf)
                except Exception:
                    logger.exception("the %s index could not be kept in shape; it answers as before", content_type)
                    await asyncio.sleep(_PAUSE_S)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _answer(done: asyncio.Future[list[Hit]], hits: list[Hit]) -> None:
    if not done.cancelled():
        done.set_result(hits)


def _fail(done: asyncio.Future[list[Hit]], error: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(error)
