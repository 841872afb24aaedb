"""The archive that filters are measured in: of its images some pass, spread evenly or in one corner of the space.

The corner holds those nearest to a picture that is not stored. It is asked for by the queries nearest to it, and by
those farthest from it (`anti-corner`), which find nothing that passes near them.

No query has part in what it measures: the recall gate tunes on texts and images that are stored, and the constants of
vectors/allowed.py and vectors/approximate.py were chosen on the pictures, queries and corner of another seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from bench.clip_shape import Vectors, clip_like
from bench.collection import K, content_of
from index_sidecar.archive.content import ContentType, VectorPage
from index_sidecar.archive.filters import Filter, filter_of
from index_sidecar.archive.metadata import term_of
from index_sidecar.sqlite import metadata
from index_sidecar.sqlite.connection import open_file
from index_sidecar.sqlite.rows import SCHEMA
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.index import FaissIndex
from tests.support.fake_torchserve import FINGERPRINT

PARTS = (0.5, 0.1, 0.01, 0.001, 0.0001)
CASES = ("spread", "corner", "anti-corner")
KINDS = ("text", "image")
QUERIES = 100

_SETS = ("spread", "corner")
_POOL = 2000
_TEXTS = 5000
_SEED = 100  # the constants were chosen at 0
_ROWS_A_STEP = 10_000


class FilteredCollection:
    """`rows` images in an approximate and an exact index; their metadata, which says what passes, in a store."""

    def __init__(self, rows: int, folder: Path) -> None:
        self.rows = rows
        self.images = clip_like("image", rows, _SEED + 1)
        self._texts = clip_like("text", _TEXTS, _SEED + 2)
        self._pools = {kind: clip_like(kind, _POOL, _SEED + 3) for kind in KINDS}
        self._centre = clip_like("image", 1, _SEED + 4)[0]
        self._passing = self._chosen()
        self._write(folder / "contents.sqlite")
        self.store = SqliteStore(folder / "contents.sqlite")
        self.approximate = FaissIndex(folder, "float32", min(200_000, rows // 2), 0.95)
        self.exact = FaissIndex(folder, "float16", 10**9, 1.0)

    def _chosen(self) -> dict[tuple[float, str], npt.NDArray[np.int64]]:
        """The rows that pass, by their part and where they lie; a smaller corner is within the larger."""
        nearest = np.argsort(-(self.images @ self._centre), kind="stable")
        chance = np.random.default_rng(_SEED + 6).permutation(self.rows)
        orders = {"spread": chance, "corner": nearest}
        return {(part, name): orders[name][: max(K, round(self.rows * part))] for part in PARTS for name in _SETS}

    async def fill(self) -> None:
        """Load both indexes, and build the approximate one."""
        await self.exact.load(self)
        await self.approximate.load(self)
        while (state := await self.approximate.state("image")).kind == "exact" or state.build is not None:
            assert state.recall is None or state.build is not None, f"the gate refused: {state}"
            await asyncio.sleep(0.05)

    def _write(self, path: Path) -> None:
        """What a store holds that was given these images one by one, but for what is shown of metadata: much faster."""
        with closing(open_file(path, SCHEMA)) as connection, connection:
            connection.execute("BEGIN")  # one transaction: each statement alone would wait for the disk
            connection.execute("INSERT INTO meta (name, value) VALUES ('model', ?)", (FINGERPRINT,))
            for first in range(0, self.rows, _ROWS_A_STEP):
                rows = range(first, min(first + _ROWS_A_STEP, self.rows))
                contents = [content_of(row, self.images[row], "image") for row in rows]
                connection.executemany(
                    "INSERT INTO vectors VALUES (?, ?)", ((row + 1, self.images[row].tobytes()) for row in rows)
                )
                connection.executemany(
                    "INSERT INTO contents (key, id, type, user, sha256, created, truncated, block)"
                    " VALUES (?, ?, ?, ?, ?, 0, 0, ?)",
                    (
                        (row + 1, each.id, each.type, each.user, each.sha256, row + 1)
                        for row, each in zip(rows, contents, strict=True)
                    ),
                )
            salt = metadata.salt_of(connection)
            for (part, name), passing in self._passing.items():
                term = metadata.hash_of(salt, "in", term_of(f"{name} {part}"))
                keys = (np.sort(passing) + 1).tolist()
                connection.executemany("INSERT INTO terms VALUES (?, ?)", ((term, key) for key in keys))

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
            keys = range(first + 1, first + len(some) + 1) if content_type == "image" else [0] * len(some)
            ids = [content.id for content in some]
            yield VectorPage(keys, ids, [None] * len(some), sha256s, vectors[first:][:batch])

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
