"""VectorIndex on a Qdrant cluster: approximate search (HNSW) over the points that store.py writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..archive.content import Content, ContentType, Hit, IndexState, Vector, ranked
from .collection import QdrantCollection, matches

_MOST_FETCHED = 10_000


class QdrantIndex:
    """Cosine search in the collection. Exact in segments too small for a graph (about 5,000 contents of a type)."""

    def __init__(self, collection: QdrantCollection, hnsw_ef: int) -> None:
        self._collection = collection
        self._hnsw_ef = hnsw_ef

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Nothing is left to do: the store has put each vector with everything else of its content."""

    @property
    def intact(self) -> bool:
        """Always: the cluster keeps its own index."""
        return True

    async def delete(self, ids: Sequence[str]) -> None:
        """Nothing is left to do: the store has deleted the vectors with everything else of the contents."""

    async def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in, counted by the cluster. Raises StorageUnavailable."""
        body = {"filter": {"must": [matches("type", content_type)]}, "exact": True}
        found = await self._collection.read("/points/count", body)
        return int(found["count"]) if found else 0

    async def state(self, content_type: ContentType) -> IndexState:
        """As far as it can be told from here: what memory it takes is the cluster's business."""
        return IndexState("approximate", await self.count(content_type), None)

    async def search(self, query: Vector, k: int, content_type: ContentType, without_user: str | None) -> list[Hit]:
        """The k most similar contents of one type that are not `without_user`'s, best first, ties by id.

        The user is part of the search itself, so that no one else's content is missing. Of a content that is replaced
        at this moment, the score may still be the old one's. Raises StorageUnavailable.
        """
        limit = k + 1
        while True:
            hits = await self._search(query, limit, content_type, without_user)
            # Qdrant has no order among equal scores: where k cuts through them, all of them are needed.
            if len(hits) < limit or hits[k - 1].score > hits[-1].score or limit == _MOST_FETCHED:
                return ranked(hits, k)
            limit = min(limit * 8, _MOST_FETCHED)

    async def _search(
        self, query: Vector, limit: int, content_type: ContentType, without_user: str | None
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
        found = await self._collection.read("/points/query", body)
        hits = []
        for point in found["points"] if found else ():
            # Qdrant reads the payload after it has searched: the content may be gone, or another one by now.
            payload = point.get("payload") or {}
            user = payload.get("user")
            if payload.get("type") == content_type and (without_user is None or user != without_user):
                hits.append(Hit(payload["id"], content_type, user, min(round(point["score"], 6), 1.0)))
        return hits
