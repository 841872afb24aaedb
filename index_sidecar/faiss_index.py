"""VectorIndex on Faiss: one exact inner-product index per content type.

One thread owns all of it: Faiss wants mutations and searches to exclude each other, and calls take effect in the
order they were made, without a lock. Faiss itself uses all cores for a search and lets go of the GIL, so the event
loop goes on. Searches that gather while the thread is busy are answered as one batch, which is one matrix product.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from .content import CONTENT_TYPES, DIMENSION, Content, ContentType, Hit, Vector, ranked

_T = TypeVar("_T")
_NOBODY = -1
_MOST_QUERIES_A_BATCH = 128


@dataclass(frozen=True, slots=True)
class _Query:
    vector: Vector
    k: int
    without_user: str | None
    done: asyncio.Future[list[Hit]]


class FaissIndex:
    """Exact cosine search over unit vectors, in memory."""

    def __init__(self) -> None:
        # By default Faiss takes the matrix product (BLAS) only from 250 queries on; it pays from three.
        faiss.cvar.distance_compute_blas_threshold = 3 * DIMENSION
        self._thread = ThreadPoolExecutor(1, "faiss")
        self._shelves = {content_type: _Shelf(content_type) for content_type in CONTENT_TYPES}
        self._waiting: dict[ContentType, list[_Query]] = {content_type: [] for content_type in CONTENT_TYPES}

    def close(self) -> None:
        """Finish the call under way and end the thread."""
        self._thread.shutdown()

    async def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""
        return len(self._shelves[content_type].ids)

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""

        def upsert() -> None:
            latest = {content.id: content for content in contents}.values()
            for content in latest:
                for content_type, shelf in self._shelves.items():
                    if content_type != content.type:
                        shelf.delete(content.id)
            for content_type, shelf in self._shelves.items():
                shelf.upsert([content for content in latest if content.type == content_type])

        await self._in_thread(upsert)

    async def delete(self, content_id: str) -> None:
        """Take a content out; nothing happens when it is not there."""

        def delete() -> None:
            for shelf in self._shelves.values():
                shelf.delete(content_id)

        await self._in_thread(delete)

    async def search(self, query: Vector, k: int, content_type: ContentType, without_user: str | None) -> list[Hit]:
        """The exact k most similar contents of one type that are not `without_user`'s, best first, ties by id."""
        done: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[content_type]
        waiting.append(_Query(query, k, without_user, done))
        await self._in_thread(lambda: self._search_waiting(content_type))
        return await done

    def _search_waiting(self, content_type: ContentType) -> None:
        """Answer every query that waits now; runs in the thread, and finds nothing to do if one before it did."""
        waiting = self._waiting[content_type]
        batch = waiting[:_MOST_QUERIES_A_BATCH]
        del waiting[: len(batch)]
        if not batch:
            return
        loop = batch[0].done.get_loop()
        try:
            answers = self._shelves[content_type].search(batch)
        except BaseException as error:
            for query in batch:
                loop.call_soon_threadsafe(_fail, query.done, error)
            raise
        for query, hits in zip(batch, answers, strict=True):
            loop.call_soon_threadsafe(_answer, query.done, hits)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _answer(done: asyncio.Future[list[Hit]], hits: list[Hit]) -> None:
    if not done.cancelled():
        done.set_result(hits)


def _fail(done: asyncio.Future[list[Hit]], error: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(error)
        done.exception()  # its own caller may have left with the thread's exception already


class _Shelf:
    """The contents of one type: row i of the Faiss index belongs to ids[i], whose owner is owners[i]."""

    def __init__(self, content_type: ContentType) -> None:
        self.content_type = content_type
        self.ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._index = faiss.IndexFlatIP(DIMENSION)
        self._owners = np.empty(1024, np.int32)  # only the first len(ids) count
        self._number_of: dict[str, int] = {}
        self._users: list[str] = []
        self._owned: Counter[int] = Counter()  # rows by owner; what it says of _NOBODY means nothing

    def _vectors(self) -> npt.NDArray[np.float32]:
        """(rows, 512) view of Faiss's own memory, valid until the next change of its size."""
        memory = faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * DIMENSION)
        view: npt.NDArray[np.float32] = memory.reshape(-1, DIMENSION)
        return view

    def _owner(self, user: str | None) -> int:
        if user is None:
            return _NOBODY
        if user not in self._number_of:
            self._number_of[user] = len(self._users)
            self._users.append(user)
        return self._number_of[user]

    def upsert(self, contents: Sequence[Content]) -> None:
        """Append the new ones, overwrite the others in place; no id comes twice."""
        new: list[Content] = []
        for content in contents:
            if content.id in self._row_of:
                row = self._row_of[content.id]
                self._vectors()[row] = content.embedding.vector
                self._set_owner(row, self._owner(content.user))
            else:
                new.append(content)
        if not new:
            return
        first = len(self.ids)
        while first + len(new) > len(self._owners):
            self._owners = np.concatenate([self._owners, np.empty_like(self._owners)])
        self._owners[first : first + len(new)] = _NOBODY
        self._index.add(np.stack([content.embedding.vector for content in new]))
        for row, content in enumerate(new, start=first):
            self.ids.append(content.id)
            self._row_of[content.id] = row
            self._set_owner(row, self._owner(content.user))

    def _set_owner(self, row: int, owner: int) -> None:
        self._owned[int(self._owners[row])] -= 1
        self._owners[row] = owner
        self._owned[owner] += 1

    def delete(self, content_id: str) -> None:
        """Move the last row into the freed one: the cost does not grow with the index."""
        row = self._row_of.pop(content_id, None)
        if row is None:
            return
        last = len(self.ids) - 1
        self._set_owner(row, _NOBODY)
        if row != last:
            self._vectors()[row] = self._vectors()[last]
            self.ids[row] = self.ids[last]
            self._row_of[self.ids[row]] = row
            self._set_owner(row, int(self._owners[last]))
            self._set_owner(last, _NOBODY)
        self._vectors()[last] = 0.0  # erased means gone from memory, too
        self.ids.pop()
        self._index.codes.resize(last * self._index.code_size)
        self._index.ntotal = last

    def search(self, queries: Sequence[_Query]) -> list[list[Hit]]:
        """All queries in one pass; those it did not settle are asked again alone."""
        rows = len(self.ids)
        if rows == 0:
            return [[] for _ in queries]
        # A selector inside the search would forgo the matrix product, so more is fetched and the user's rows dropped;
        # one more than k shows whether k cuts through equal scores.
        fetch = max(1 + query.k + min(self._owned_by(query.without_user), query.k) for query in queries)
        scores, found = self._index.search(np.stack([query.vector for query in queries]), min(rows, fetch))
        return [self._settle(*each) for each in zip(queries, scores, found, strict=True)]

    def _settle(self, query: _Query, scores: npt.NDArray[np.float32], found: npt.NDArray[np.int64]) -> list[Hit]:
        """The best rows there are, best first -> the k best that are not the user's, ties by id."""
        owned = self._owned_by(query.without_user)
        available = len(self.ids) - owned
        if owned:
            others = self._owners[found] != self._number_of[query.without_user or ""]
            scores, found = scores[others], found[others]
        if len(found) < available and (len(found) <= query.k or scores[query.k - 1] == scores[-1]):
            scores, found = self._ask_alone(query, min(query.k, available), owned > 0)
        return ranked(self._hits(scores, found), query.k)

    def _ask_alone(self, query: _Query, k: int, select: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k best rows of others and all that score like the last of them, in no order: two passes."""
        parameters = None
        if select:
            others = self._owners[: len(self.ids)] != self._number_of[query.without_user or ""]
            bitmap = np.packbits(others, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        vector = query.vector.reshape(1, -1)
        best, _ = self._index.search(vector, k, params=parameters)
        radius = float(np.nextafter(best[0, -1], np.float32(-2)))  # what is found is above it
        _, scores, found = self._index.range_search(vector, radius, params=parameters)
        return scores, found

    def _owned_by(self, user: str | None) -> int:
        number = self._number_of.get(user) if user is not None else None
        return 0 if number is None else self._owned[number]

    def _hits(self, scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> list[Hit]:
        hits = []
        for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
            owner = int(self._owners[row])
            user = None if owner == _NOBODY else self._users[owner]
            hits.append(Hit(self.ids[row], self.content_type, user, min(score, 1.0)))
        return hits
