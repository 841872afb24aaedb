"""The archive an index benchmark works on, and how its answers are judged."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from bench.clip_shape import Vectors, clip_like
from index_sidecar.archive.content import Content, Embedding
from index_sidecar.archive.ports import VectorIndex
from index_sidecar.sqlite.store import SqliteStore
from tests.support.fake_torchserve import FINGERPRINT

Figures = dict[str, Any]

_TEXTS = 5000
QUERIES = 500
K = 10


class Collection:
    """`rows` images and a few texts in a store, and queries of both kinds that are not in it."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows = rows
        self.folder = folder
        self.images = clip_like("image", rows, 1)
        self.queries = {kind: clip_like(kind, QUERIES, 3) for kind in ("text", "image")}
        self.store = SqliteStore(folder / "contents.sqlite")

    async def fill(self) -> None:
        """Put all contents in the store, 5,000 at once."""
        texts = clip_like("text", _TEXTS, 2)
        for vectors, kind in ((texts, "text"), (self.images, "image")):
            for first in range(0, len(vectors), 5000):
                numbers = range(first, min(first + 5000, len(vectors)))
                await asyncio.gather(*(self.store.put(content_of(n, vectors[n], kind)) for n in numbers))

    def exact(self, queries: Vectors) -> list[set[int]]:
        """The true answers of each query: the ten best rows."""
        rows = faiss.knn(queries, self.images, K, faiss.METRIC_INNER_PRODUCT)[1]
        return [set(each) for each in rows.tolist()]

    async def ask(self, index: VectorIndex, number: int, user: str | None = None) -> None:
        """The images nearest to one of the texts, without the user's."""
        queries = self.queries["text"]
        hits = await index.search(queries[number % len(queries)], K, "image", user)
        assert len(hits) == K
        assert user is None or all(hit.user != user for hit in hits)

    async def recalls(self, index: VectorIndex, most: int = QUERIES) -> dict[str, float]:
        """By kind of query, none of them stored: the part of the ten best images, computed outside, that it finds."""
        recalls = {}
        for kind, all_queries in self.queries.items():
            queries = all_queries[:most]
            answers = [await index.search(query, K, "image", None) for query in queries]
            found = [{int(hit.id.split()[-1]) for hit in hits} for hits in answers]
            recalls[kind] = recall(found, self.exact(queries))
        return recalls


@contextlib.asynccontextmanager
async def filled(rows: int) -> AsyncIterator[Collection]:
    """A collection in a folder of its own, which goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="bench-index-", dir=os.environ.get("BENCH_DIR")))
    try:
        collection = await asyncio.to_thread(Collection, rows, folder / "data")
        await collection.fill()
        yield collection
        await collection.store.close()
    finally:
        shutil.rmtree(folder)


def content_of(number: int, vector: Vectors, kind: Any, prefix: str = "") -> Content:
    """Every fourth content is the hog's."""
    sha256 = hashlib.sha256(f"{prefix}{kind}{number}".encode()).digest()
    user = "hog" if number % 4 == 0 else f"user {number % 1000}"
    return Content(f"{prefix}{kind} {number}", kind, user, sha256, 0.0, Embedding(vector, FINGERPRINT))


def recall(found: Sequence[set[int]], exact: Sequence[set[int]]) -> float:
    """The part of the exact ten best that was found."""
    return float(np.mean([len(one & other) / K for one, other in zip(found, exact, strict=True)]))


def percentile(times: list[float], percent: int) -> float:
    """So many percent of the times are no longer."""
    return float(np.percentile(times, percent))
