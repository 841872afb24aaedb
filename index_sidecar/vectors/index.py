"""VectorIndex on Faiss: each content type is searched exactly, and approximately once it has grown too large for that.

Who may do what, and when: one thread owns all shelves. Faiss wants mutations and searches to exclude each other, and
calls take effect in the order they were made; a thread with a queue gives both without a lock. Searches share: those
that gather while the thread is busy are answered as one batch, which is one matrix product on all cores. Every call
hands the thread a bounded piece of work, so the event loop itself never works on vectors: Faiss lets go of the GIL,
and what Python does between is done within milliseconds. Loading, too, is done in that thread. Of others, those that
exact.py shares a search out to read only while that thread waits for them; the builder's works on copies it is handed,
and a shelf that is filled beside belongs to who fills it until it takes its place.

An exception in a change, or in a search, may leave a shelf half changed. From then on all calls are refused, until
`load` has filled new shelves from the store.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from ..archive.content import CONTENT_TYPES, Content, ContentType, Hit, IndexState, Vector
from ..archive.errors import NotReady
from ..archive.filters import Selection
from ..archive.ports import VectorSource
from .builder import IndexBuilder
from .exact import DType
from .keeper import IndexKeeper
from .loader import IndexLoader
from .shelf import Query, Shelf
from .snapshot import Snapshots

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_Waiting = tuple[Query, "asyncio.Future[list[Hit]]"]
_MOST_QUERIES_A_BATCH = 128
_IDS_A_STEP = 256


class FaissIndex:
    """Cosine search over unit vectors, in memory, with snapshots in `folder`."""

    def __init__(self, folder: Path, dtype: DType, exact_rows: int, recall: float) -> None:
        """Up to `exact_rows` contents of a type are searched exactly, more only if `recall` cannot be reached."""
        self._dtype = dtype
        self._exact_rows = exact_rows
        self._recall = recall
        self._thread = ThreadPoolExecutor(1, "index")
        self._shelves = {content_type: Shelf(content_type, dtype) for content_type in CONTENT_TYPES}
        self._builder = IndexBuilder(self._shelves, self._in_thread, exact_rows, recall)
        self._snapshots = Snapshots(folder)
        self._waiting: dict[ContentType, list[_Waiting]] = {content_type: [] for content_type in CONTENT_TYPES}
        self._deleting: list[dict[str, None]] = []
        self._stop = threading.Event()
        self._passes, self._queries = 0, 0
        self._keeper: IndexKeeper | None = None
        self._intact = True

    @property
    def intact(self) -> bool:
        """Whether it holds what it was told. If not, all calls raise NotReady, until `load` has filled it."""
        return self._intact

    async def load(self, source: VectorSource) -> None:
        """Empty the index, fill it with all that `source` holds, and keep it in shape from then on."""
        if self._keeper is not None:
            await self._keeper.end()
        self._snapshots.fingerprint = await source.fingerprint()
        loader = IndexLoader(source, self._dtype, self._snapshots, self._stop)

        def load() -> None:
            self._intact = False
            for content_type in CONTENT_TYPES:
                self._shelves[content_type] = Shelf(content_type, self._dtype)  # first let go of what may be broken
            for content_type in CONTENT_TYPES:
                self._shelves[content_type] = loader.load(content_type, self._exact_rows, self._recall)
            self._intact = True

        await self._in_thread(load)
        self._keeper = IndexKeeper(self._shelves, self._in_thread, self._builder, self._snapshots, loader)

    async def close(self) -> None:
        """Finish the calls under way, write the snapshots that are worth it, and end the threads."""
        self._stop.set()
        if self._keeper is not None:
            await self._keeper.end()
            if self._intact:
                await self._keeper.write_last_snapshots()
        await asyncio.to_thread(self._end_threads)

    def _end_threads(self) -> None:
        self._thread.shutdown()
        self._builder.close()

    async def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""
        return len(self._shelves[content_type])

    async def state(self, content_type: ContentType) -> IndexState:
        """How the contents of one type are searched at the moment."""
        shelf = self._shelves[content_type]
        return IndexState(
            shelf.vectors.kind,
            len(shelf),
            shelf.vectors.memory_bytes,
            shelf.vectors.nprobe,
            shelf.vectors.recall or self._builder.refused(content_type),
            self._builder.progress(content_type),
            self._snapshots.state(content_type),
        )

    def events(self) -> Mapping[str, int]:
        """Queries, and the passes over the vectors that answered them together."""
        return {"passes": self._passes, "queries": self._queries}

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""
        latest = list({content.id: content for content in contents}.values())
        if latest:
            self._snapshots.fingerprint = latest[-1].embedding.fingerprint
        for pending in self._deleting:
            for content in latest:
                pending.pop(content.id, None)

        def upsert() -> None:
            for content_type, shelf in self._shelves.items():
                for content in latest:
                    if content_type != content.type:
                        shelf.delete(content.id)
                shelf.upsert([content for content in latest if content.type == content_type])

        await self._change(upsert)

    async def delete(self, ids: Sequence[str]) -> None:
        """Take contents out, in steps that let searches and other changes in between; ids that are not there are none.

        An id that is put in again meanwhile stays.
        """
        pending = dict.fromkeys(ids)
        self._deleting.append(pending)
        try:
            while step := list(islice(pending, _IDS_A_STEP)):
                for content_id in step:
                    del pending[content_id]
                await self._change(partial(self._delete, step))
        finally:
            self._deleting = [each for each in self._deleting if each is not pending]

    def _delete(self, ids: Sequence[str]) -> None:
        for shelf in self._shelves.values():
            for content_id in ids:
                shelf.delete(content_id)

    async def search(
        self,
        query: Vector,
        k: int,
        content_type: ContentType,
        without_user: str | None,
        among: Selection | None = None,
    ) -> list[Hit]:
        """The k most similar of those of one type that are not `without_user`'s, best first, ties by id."""
        self._check_intact()
        done: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[content_type]
        waiting.append((Query(query, k, without_user, among), done))
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
        self._passes, self._queries = self._passes + 1, self._queries + len(batch)
        loop = batch[0][1].get_loop()
        try:
            self._check_intact()
            answers = self._shelves[content_type].search([query for query, _ in batch])
        except Exception as error:
            if not isinstance(error, NotReady | MemoryError):  # of memory, a search only takes what it gives back
                error = self._failed(error)
            for _, done in batch:
                loop.call_soon_threadsafe(_fail, done, error)
            return
        for (_, done), hits in zip(batch, answers, strict=True):
            loop.call_soon_threadsafe(_answer, done, hits)

    async def _change(self, work: Callable[[], None]) -> None:
        """Change the shelves. Raises NotReady when they are, or now get, broken."""

        def change() -> None:
            self._check_intact()
            try:
                work()
            except Exception as error:
                raise self._failed(error) from error

        await self._in_thread(change)
        if self._keeper is not None:
            self._keeper.changed()

    def _check_intact(self) -> None:
        if not self._intact:
            raise NotReady("the index has to be filled from the store again; try again later")

    def _failed(self, error: Exception) -> NotReady:
        logger.error("the index failed and has to be filled from the store again", exc_info=error)
        self._intact = False
        return NotReady("the index failed and has to be filled from the store again; try again later")

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _answer(done: asyncio.Future[list[Hit]], hits: list[Hit]) -> None:
    if not done.cancelled():
        done.set_result(hits)


def _fail(done: asyncio.Future[list[Hit]], error: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(error)
