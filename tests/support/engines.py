"""Every engine behind the index's contract, empty and durable, and the plainest search, which each is compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from index_sidecar.archive.content import CONTENT_TYPES, Content, ContentType, Hit, Vector
from index_sidecar.archive.ports import VectorIndex
from index_sidecar.qdrant.index import QdrantIndex
from index_sidecar.qdrant.store import QdrantStore
from index_sidecar.sqlite.store import SqliteStore
from index_sidecar.vectors.exact import DType
from index_sidecar.vectors.index import FaissIndex
from index_sidecar.vectors.training import LEAST_ROWS

from .fake_vectors import vector_of
from .qdrant_server import QdrantServers


class Engine(Protocol):
    """An empty index and what makes it durable."""

    @property
    def index(self) -> VectorIndex:
        """What is tested."""

    @property
    def store(self) -> SqliteStore | QdrantStore:
        """Where its contents are durable."""

    exact: bool  # whether all of the k best are found, always
    counts_at_once: bool  # whether `count` knows what was changed a moment ago
    score_error: float  # by which a score may be off

    async def upsert(self, contents: Sequence[Content]) -> None:
        """As the service does it: durable, then in the index."""

    async def delete(self, content_id: str) -> None:
        """As the service does it."""

    async def restart(self) -> None:
        """Close the index and open it again, as an orderly stop and a start of the sidecar do."""

    async def held(self, content_type: ContentType) -> int:
        """How many contents a search can find, counted one by one."""


@dataclass(frozen=True)
class FaissOptions:
    dtype: DType
    exact_rows: int


class FaissEngine:
    """FaissIndex over a store; approximate ones are built before `upsert` returns."""

    counts_at_once = True

    def __init__(self, folder: Path, options: FaissOptions) -> None:
        self._folder = folder
        self._options = options
        self.exact = options.exact_rows > 0
        self.score_error = 1e-6 if (options.dtype, self.exact) == ("float32", True) else 2e-4

    async def open(self) -> None:
        self.store = SqliteStore(self._folder / "contents.sqlite")
        options = self._options
        # The vectors of the fake model have no neighbourhoods, so lists cannot reach much: here any recall will do.
        self.index = FaissIndex(self._folder, options.dtype, options.exact_rows, -1.0)
        await self.index.load(self.store)
        await self._built()

    async def close(self) -> None:
        await self.index.close()
        await self.store.close()

    async def upsert(self, contents: Sequence[Content]) -> None:
        written = await asyncio.gather(*(self.store.put(content) for content in contents))
        await self.index.upsert([replace(each, key=put.key) for each, put in zip(contents, written, strict=True)])
        await self._built()

    async def delete(self, content_id: str) -> None:
        await self.store.delete(content_id)
        await self.index.delete([content_id])

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def held(self, content_type: ContentType) -> int:
        return await self.index.count(content_type)

    async def _built(self) -> None:
        async def done() -> bool:
            states = [await self.index.state(content_type) for content_type in CONTENT_TYPES]
            least = max(self._options.exact_rows + 1, LEAST_ROWS)
            return all(each.kind == "approximate" for each in states if each.size >= least)

        async with asyncio.timeout(60):
            while not await done():
                await asyncio.sleep(0.001)


class QdrantEngine:
    """QdrantIndex over QdrantStore on running servers; a restart is another sidecar's view of them."""

    # A fifth of what would make Qdrant build a graph: up to there it looks at every vector.
    exact = True
    counts_at_once = False
    score_error = 2e-6  # computed in float32, so that rounding to 1e-6 may go either way

    def __init__(self, servers: QdrantServers, name: str) -> None:
        self._servers = servers
        self._name = name

    async def open(self) -> None:
        collection = self._servers.collection(self._name)
        self.store, self.index = QdrantStore(collection), QdrantIndex(collection, 256)

    async def close(self) -> None:
        await self.store.close()

    async def upsert(self, contents: Sequence[Content]) -> None:
        await self.store.put_all([(content, None) for content in contents])
        await self.index.upsert(contents)

    async def delete(self, content_id: str) -> None:
        await self.store.delete(content_id)
        await self.index.delete([content_id])

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def held(self, content_type: ContentType) -> int:
        return await self.store.count(content_type)


ENGINES: dict[str, FaissOptions | str] = {
    "exact float32": FaissOptions("float32", 10**9),
    "exact float16": FaissOptions("float16", 10**9),
    "approximate": FaissOptions("float32", 0),
    "qdrant, one node": "qdrant",
    "qdrant, three nodes": "qdrant_cluster",
}


def best(
    contents: Iterable[Content], query: Vector, k: int, content_type: ContentType, without_user: str | None
) -> list[Hit]:
    """The plainest search there is: every score computed, and rounded as all are, then sorted."""
    chosen = [each for each in contents if each.type == content_type]
    chosen = [each for each in chosen if without_user is None or each.user != without_user]
    if not chosen:
        return []
    scores = np.stack([each.embedding.vector for each in chosen]).astype(np.float64) @ query.astype(np.float64)
    scored = [(each, round(float(score), 6)) for each, score in zip(chosen, scores, strict=True)]
    scored.sort(key=lambda pair: (-pair[1], pair[0].id))
    return [Hit(each.id, each.type, each.user, score) for each, score in scored[:k]]


async def count(engine: Engine, content_type: ContentType) -> int:
    """What the index counts; where it counts seldom, what a new one would."""
    if engine.counts_at_once:
        return await engine.index.count(content_type)
    return (await engine.index.state(content_type)).size


async def check(engine: Engine, contents: Iterable[Content], query: Vector, k: int, *what: object) -> None:
    """A search finds what the plainest one finds, or, approximately, as many true hits in the right order."""
    content_type, user, *among = what
    contents = list(contents)
    found = await engine.index.search(query, k, content_type, user, *among)  # type: ignore[arg-type]
    everything = best(contents, query, len(contents), content_type, user)  # type: ignore[arg-type]
    assert len(found) == min(k, len(everything))
    true = {hit.id: hit for hit in everything}
    assert len({hit.id for hit in found}) == len(found)
    for hit in found:
        assert replace(hit, score=0.0) == replace(true[hit.id], score=0.0)
        assert hit.score == pytest.approx(true[hit.id].score, abs=engine.score_error)
    assert found == sorted(found, key=lambda hit: (-hit.score, hit.id))
    if engine.exact and found:
        # Where rounding makes equals of two, or swaps them, either may be in: the scores tell.
        expected = [hit.score for hit in everything[: len(found)]]
        assert [hit.score for hit in found] == pytest.approx(expected, abs=engine.score_error)


def query_of(name: object) -> Vector:
    return vector_of(str(name).encode(), "text")
