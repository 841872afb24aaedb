"""Builds new vectors for a shelf in the background, while the shelf answers and changes, and swaps them in at once.

They are built from the shelf's own rows and not from the store: these are in memory, in the order of the index's
thread, and cost no parsing; the store would have to be read beside the writes that go on. The builder never touches
memory that the index's thread may move: it is handed copies, a page at a time. Rows that changed since their copy are
noted by the shelf and copied again, in ever smaller rounds, until few enough are left to be settled in one step.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import faiss
import numpy as np

from ..archive.content import ContentType, Vector
from .approximate import ApproximateVectors
from .recall_gate import QUERIES_A_DIRECTION, RecallGate, Verdict
from .rows import Rows
from .shelf import Shelf
from .training import LEAST_ROWS, better_centroids, lists_for, sample_size, train

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_ROWS_A_PAGE = 8192
_ROUNDS = 8
_ROWS_AT_THE_SWAP = 128
_SHRUNK_PART = 0.9  # of what is searched exactly: so a type whose size wavers there is not built again and again


class InThread(Protocol):
    """Runs work in the index's thread, between searches and changes."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """What `work` returned."""


class IndexBuilder:
    """At most one build at a time; it takes one core, so that searches keep the others."""

    def __init__(
        self, shelves: Mapping[ContentType, Shelf], in_thread: InThread, exact_rows: int, target: float
    ) -> None:
        self._shelves = shelves
        self._in_thread = in_thread
        self._exact_rows = exact_rows
        self._target = target
        # The number of threads OpenMP takes is a property of the thread that asks it.
        self._thread = ThreadPoolExecutor(1, "index-builder", initializer=faiss.omp_set_num_threads, initargs=(1,))
        self._refused: dict[ContentType, tuple[int, dict[str, float]]] = {}
        self._building: ContentType | None = None
        self._progress = 0.0

    def close(self) -> None:
        """End the thread, after what it is doing."""
        self._thread.shutdown()

    def progress(self, content_type: ContentType) -> float | None:
        """The part done, 0 to 1, of the build of this type; None when there is none."""
        return self._progress if self._building == content_type else None

    def refused(self, content_type: ContentType) -> dict[str, float] | None:
        """The recall that the last build of this type ended with, when it was not enough."""
        return self._refused[content_type][1] if content_type in self._refused else None

    def needed(self, content_type: ContentType) -> bool:
        """Whether a shelf has outgrown its vectors."""
        shelf = self._shelves[content_type]
        refused_rows, _ = self._refused.get(content_type, (0, None))
        enough = max(self._exact_rows + 1, LEAST_ROWS, 2 * refused_rows)
        return len(shelf) >= enough and shelf.vectors.outgrown

    def to_be_exact(self, content_type: ContentType) -> bool:
        """Whether an approximate shelf has shrunk below what is searched exactly, or could not be built anew."""
        shelf = self._shelves[content_type]
        shrunk = len(shelf) <= _SHRUNK_PART * self._exact_rows or content_type in self._refused
        return shrunk and shelf.vectors.trained is not None

    async def build(self, content_type: ContentType) -> bool:
        """Train, fill, judge and swap in an approximate index; False when it does not reach the target."""
        shelf, started = self._shelves[content_type], time.monotonic()
        self._building, self._progress = content_type, 0.0
        try:
            verdict = await self._build(shelf)
        finally:
            self._building = None
            await self._in_thread(shelf.forget_touched)
        rows, seconds = len(shelf), time.monotonic() - started
        if verdict.nprobe is None:
            self._refused[content_type] = (rows, verdict.recall)
            why = f"approximate search reached only {verdict}" if verdict.recall else "its contents are too much alike"
            logger.warning("the %s index stays exact: %s, after %.0f s", content_type, why, seconds)
            return False
        self._refused.pop(content_type, None)
        logger.info("the %s index is approximate now: %d rows, %s, in %.0f s", content_type, rows, verdict, seconds)
        return True

    async def _build(self, shelf: Shelf) -> Verdict:
        rows = await self._in_thread(lambda: len(shelf))  # between two changes, not in the middle of one
        gate = RecallGate(await self._queries(shelf))
        sample = await self._sample(shelf, sample_size(rows))
        centroids = None
        for number in range(_ROUNDS):  # not one call: a sidecar that is told to stop has to wait for the one under way
            self._progress = 0.4 * number / _ROUNDS
            centroids = await self._background(better_centroids, centroids, sample, min(lists_for(rows), len(sample)))
        trained = await self._background(train, centroids, sample, rows)
        if trained is None:
            return Verdict(None, {}, 0.0)
        fresh = ApproximateVectors(trained)
        del sample
        rows = await self._in_thread(shelf.note_touched)
        for first in range(0, rows, _ROWS_A_PAGE):
            page = np.arange(first, min(first + _ROWS_A_PAGE, rows))
            vectors = await self._read(shelf, page)
            if len(vectors):
                await self._background(fresh.append, vectors)
                await self._background(gate.add, vectors, first)
            if len(vectors) < len(page):
                break  # the shelf has shrunk; what it has gained at its end since then, it has noted
            self._progress = 0.4 + 0.5 * first / rows
        verdict = await self._background(gate.judge, fresh, self._target)
        if verdict.nprobe is None:
            await self._background(fresh.release)
            return verdict
        outgrown = shelf.vectors
        fresh.trained = replace(fresh.trained, nprobe=verdict.nprobe, recall=verdict.recall, reached=verdict.reached)
        self._progress = 0.95

        def swap() -> bool:
            if shelf.touched > _ROWS_AT_THE_SWAP:
                return False
            _sync(fresh, *shelf.take_touched(_ROWS_AT_THE_SWAP))
            fresh.removed = 0
            shelf.vectors = fresh
            return True

        while not await self._in_thread(swap):
            changed = await self._in_thread(lambda: shelf.take_touched(_ROWS_A_PAGE))
            await self._background(_sync, fresh, *changed)
        await self._background(outgrown.release)
        return verdict

    async def _queries(self, shelf: Shelf) -> dict[str, tuple[Vector, Rows]]:
        queries = {}
        for content_type, other in self._shelves.items():
            rows = await self._background(_some, len(other), QUERIES_A_DIRECTION)
            if len(rows):
                vectors = await self._read(other, rows)
                own = rows[: len(vectors)] if other is shelf else np.full(len(vectors), -1)
                queries[f"{content_type}->{shelf.content_type}"] = (vectors, own)
        return queries

    async def _sample(self, shelf: Shelf, size: int) -> Vector:
        rows = await self._background(_some, len(shelf), size)
        pages = [rows[first : first + _ROWS_A_PAGE] for first in range(0, len(rows), _ROWS_A_PAGE)]
        vectors = [await self._read(shelf, page) for page in pages]
        return await self._background(_distinct, vectors)

    async def _read(self, shelf: Shelf, rows: Rows) -> Vector:
        """The vectors of those of these ascending rows that are still there."""
        return await self._in_thread(lambda: shelf.vectors.read(rows[rows < len(shelf)]))

    async def _background(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _distinct(pages: list[Vector]) -> Vector:
    """All rows, each vector once."""
    rows = np.ascontiguousarray(np.concatenate(pages))
    # Sorting the rows themselves would hold the GIL; equal rows have equal sums, other rows almost never have.
    odd = np.random.default_rng(1).integers(1 << 63, size=rows.shape[1] // 2, dtype=np.uint64) * 2 + 1
    _, first = np.unique(rows.view(np.uint64) @ odd, return_index=True)
    return rows if len(first) == len(rows) else rows[first]


def _some(rows: int, size: int) -> Rows:
    """Ascending row numbers: all, or a random sample of that size."""
    if rows <= size:
        return np.arange(rows)
    return np.sort(np.random.default_rng(1).choice(rows, size, replace=False, shuffle=False))


def _sync(fresh: ApproximateVectors, rows: Rows, vectors: Vector, count: int) -> None:
    """Make `fresh`, a copy of a shelf of `count` rows, agree with it in these ascending rows.

    All rows at the end that one of the two has and the other has not are among them, or follow later.
    """
    while len(fresh) > count:
        fresh.remove(len(fresh) - 1)
    old = len(fresh)
    for row, vector in zip(rows.tolist(), vectors, strict=False):  # the rows that are gone come last
        if row < old:
            fresh.overwrite(row, vector)
    new = vectors[np.searchsorted(rows, old) :]
    if len(new):
        fresh.append(new)
