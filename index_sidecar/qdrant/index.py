"""VectorIndex on a Qdrant cluster: approximate search (HNSW) over the points that store.py writes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..archive.content import Content, ContentType, Hit, IndexState, Vector, ranked
from ..archive.filters import Selection
from .collection import QdrantCollection, matches
from .filters import condition

_MOST_FETCHED = 20_000  # of equal scores; twice the deepest search
_COUNT_EVERY_S = 2.0
_COUNT_AT_LEAST_EVERY_S = 30.0


class QdrantIndex:
    """Cosine search in the collection. Exact in segments too small for a graph (about 5,000 contents of a type)."""

    def __init__(self, collection: QdrantCollection, hnsw_ef: int) -> None:
        self._collection = collection
        self._hnsw_ef = hnsw_ef
        self._counts: dict[ContentType, tuple[float, int]] = {}  # when, and how many
        self._counting: dict[ContentType, asyncio.Task[int]] = {}

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Nothing is left to do: the store has put each vector with everything else of its content."""

    @property
    def intact(self) -> bool:
        """Always: the cluster keeps its own index."""
        return True

    async def delete(self, ids: Sequence[str]) -> None:
        """Nothing is left to do: the store has deleted the vectors with everything else of the contents."""

    async def count(self, content_type: ContentType) -> int:
        """About how many contents of one type are in, as the cluster said some seconds ago. Raises StorageUnavailable.

        Only who asks after a long silence waits for the cluster: this is called at each search.
        """
        now = time.monotonic()
        counted_at, count = self._counts.get(content_type, (-math.inf, 0))
        if now - counted_at > _COUNT_AT_LEAST_EVERY_S:
            return await self._count(content_type)
        if now - counted_at > _COUNT_EVERY_S and content_type not in self._counting:
            counting = asyncio.create_task(self._count(content_type))
            self._counting[content_type] = counting
            counting.add_done_callback(lambda done: self._counted(content_type, done))
        return count

    async def _count(self, content_type: ContentType) -> int:
        # An exact count collects all ids.
        body = {"filter": {"must": [matches("type", content_type)]}, "exact": False}
        found = await self._collection.read("/points/count", body)
        count = int(found["count"]) if found else 0
        self._counts[content_type] = time.monotonic(), count
        return count

    def _counted(self, content_type: ContentType, done: asyncio.Task[int]) -> None:
        del self._counting[content_type]
        if not done.cancelled():
            done.exception()  # the next one asks again

    async def state(self, content_type: ContentType) -> IndexState:
        """As far as it can be told from here: what memory it takes is the cluster's business."""
        return IndexState("approximate", await self._count(content_type), None)

    def events(self) -> Mapping[str, int]:
        """None: each node counts its own."""
        return {}

    async def search(
        self,
        query: Vector,
        k: int,
        content_type: ContentType,
        without_user: str | None,
        among: Selection | None = None,
    ) -> list[Hit]:
        """The k most similar contents of one type that are not `without_user`'s, best first, ties by id.

        The user and the filter are part of the search itself, so that no one else's content is missing. Of a content
        that is replaced at this moment, the score may still be the old one's. Raises StorageUnavailable.
        """
        limit = k + 1
        while True:
            hits = await self._search(query, limit, content_type, without_user, among)
            # Qdrant has no order among equal scores: where k cuts through them, all of them are needed.
            if len(hits) < limit or hits[k - 1].score > hits[-1].score or limit == _MOST_FETCHED:
                return ranked(hits, k)
            limit = min(limit * 8, _MOST_FETCHED)

    async def _search(
        self, query: Vector, limit: int, content_type: ContentType, without_user: str | None, among: Selection | None
    ) -> list[Hit]:
        body: dict[str, Any] = {
            "query": query.tolist(),
            "filter": {"must": [matches("type", content_type)]},
            "limit": limit,
            "with_payload": ["id", "type", "user"],
            "params": {"hnsw_ef": max(self._hnsw_ef, limit)},
        }
        if without_user is not None:
            body["filter"]["must_not"] = [matches("user", without_user)]
        if among is not None:
            body["filter"]["must"].append(condition(among.filter))
        found = await self._collection.read("/points/query", body)
        hits = []
        for point in found["points"] if found else ():
            # Qdrant reads the payload after it has searched: the content may be gone, or another one by now.
            payload = point.get("payload") or {}
            user = payload.get("user")
            if payload.get("type") == content_type and (without_user is None or user != without_user):
                hits.append(Hit(payload["id"], content_type, user, min(round(point["score"], 6), 1.0)))
        return hits
