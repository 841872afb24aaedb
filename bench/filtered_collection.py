"""The archive that filters are measured in: of its images some pass, spread evenly or in one corner of the space.

The corner holds those nearest to a picture that is not stored. It is asked for by the queries nearest to it, and by
those farthest from it (`anti-corner`), which find nothing that passes near them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from bench.clip_shape import Vectors, clip_like
from bench.collection import K, content_of
from index_sidecar.archive.content import ContentType, VectorPage
from index_sidecar.archive.filters import Filter, filter_of
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex
from tests.support.fake_torchserve import FINGERPRINT

PARTS = (0.5, 0.1, 0.01, 0.001, 0.0001)
CASES = ("spread", "corner", "anti-corner")
KINDS = ("text", "image")
QUERIES = 100

_SETS = ("spread", "corner")
_POOL = 2000
_ADDED_AT_ONCE = 5000
_TEXTS = 5000


class FilteredCollection:
    """`rows` images in an approximate and an exact index; their metadata, which says what passes, in a store."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows = rows
        self.images = clip_like("image", rows, 1)
        self._texts = clip_like("text", _TEXTS, 2)
        self._pools = {kind: clip_like(kind, _POOL, 3) for kind in KINDS}
        self._centre = clip_like("image", 1, 4)[0]
        self._passing = self._chosen()
        self.store = SqliteStore(folder / "contents.sqlite")
        self.approximate = FaissIndex(folder, "float32", min(200_000, rows // 2), 0.95)
        self.exact = FaissIndex(folder, "float16", 10**9, 1.0)

    def _chosen(self) -> dict[tuple[float, str], npt.NDArray[np.int64]]:
        """The rows that pass, by their part and where they lie; a smaller corner is within the larger."""
        nearest = np.argsort(-(self.images @ self._centre), kind="stable")
        chance = np.random.default_rng(6).permutation(self.rows)
        orders = {"spread": chance, "corner": nearest}
        return {(part, name): orders[name][: max(K, round(self.rows * part))] for part in PARTS for name in _SETS}

    async def fill(self) -> None:
        """Load both indexes, build the approximate one, and store what passes which filter meanwhile."""
        await self.exact.load(self)
        await self.approximate.load(self)
        await asyncio.gather(self._store(), self._built())

    async def _store(self) -> None:
        tags: list[list[str]] = [[] for _ in range(self.rows)]
        for (part, name), rows in self._passing.items():
            for row in rows.tolist():
                tags[row].append(f"{name} {part}")
        for first in range(0, self.rows, _ADDED_AT_ONCE):
            some = range(first, min(first + _ADDED_AT_ONCE, self.rows))
            contents = [content_of(number, self.images[number], "image") for number in some]
            told = [{"in": tags[number]} if tags[number] else {} for number in some]
            tagged = (replace(content, metadata=each) for content, each in zip(contents, told, strict=True))
            await asyncio.gather(*(self.store.put(content) for content in tagged))

    async def _built(self) -> None:
        while (state := await self.approximate.state("image")).kind == "exact" or state.build is not None:
            assert state.recall is None or state.build is not None, f"the gate refused: {state}"
            await asyncio.sleep(0.05)

    async def fingerprint(self) -> str:
        """As a store does, so that the indexes load what is in memory already."""
        return FINGERPRINT

    def size(self, content_type: ContentType) -> int:
        """As `VectorSource` has it."""
        return len(self._of(content_type))

    def pages(self, content_type: ContentType, batch: int) -> Iterator[VectorPage]:
        """As `VectorSource` has it."""
        vectors = self._of(content_type)
        for first in range(0, len(vectors), batch):
            some = [content_of(n, vectors[n], content_type) for n in range(first, min(first + batch, len(vectors)))]
            sha256s = [content.sha256 for content in some]
            yield VectorPage([content.id for content in some], [None] * len(some), sha256s, vectors[first:][:batch])

    def _of(self, content_type: ContentType) -> Vectors:
        return self.images if content_type == "image" else self._texts

    def filter(self, part: float, case: str) -> Filter:
        """What lets so many pass."""
        tag = f"{_set_of(case)} {part}"
        return filter_of({"must": [{"key": "in", "match": {"value": tag}}]})

    def queries(self, case: str, kind: str) -> Vectors:
        """Of a case; none of them is stored."""
        pool = self._pools[kind]
        nearest = np.argsort(-(pool @ self._centre))
        chosen: Vectors = pool[
            {"spread": np.arange(QUERIES), "corner": nearest[:QUERIES], "anti-corner": nearest[-QUERIES:]}[case]
        ]
        return chosen

    def passing(self, part: float, case: str) -> npt.NDArray[np.int64]:
        """The rows."""
        return self._passing[part, _set_of(case)]

    def true(self, part: float, case: str, queries: Vectors) -> list[set[int]]:
        """The ten best rows of those that pass, computed outside of the index."""
        rows = self.passing(part, case)
        found = faiss.knn(queries, self.images[rows], K, faiss.METRIC_INNER_PRODUCT)[1]
        return [set(rows[each].tolist()) for each in found]

    async def close(self) -> None:
        """Let go of everything."""
        await self.approximate.close()
        await self.exact.close()
        await self.store.close()


def _set_of(case: str) -> str:
    return "spread" if case == "spread" else "corner"


@contextlib.asynccontextmanager
async def filled(rows: int) -> AsyncIterator[FilteredCollection]:
    """Such a collection in a folder of its own, which goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-filters-", dir=os.environ.get("BENCH_DIR")))
    try:
        collection = await asyncio.to_thread(FilteredCollection, rows, folder)
        await collection.fill()
        yield collection
        await collection.close()
    finally:
        shutil.rmtree(folder)
