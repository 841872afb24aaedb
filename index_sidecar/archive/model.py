"""What the model is asked: contents and queries, in their lanes, and whether it is the model of what is stored."""

from __future__ import annotations

from .content import ContentType, Embedding, Original
from .errors import Overloaded
from .lanes import Lane, Lanes
from .ports import Embedder, Store
from .query_cache import QueryCache


class Model:
    """Vectors of one model only. Every method raises InvalidInput, Unavailable or a kind of it, as ModelMismatch."""

    def __init__(self, embedder: Embedder, store: Store, queries: QueryCache, queue_s: float, at_once: int) -> None:
        """`queue_s`: how long a content may wait for its turn; `at_once`: how many the embedder takes at a time."""
        self._embedder = embedder
        self._store = store
        self.queries = queries
        self.lanes = Lanes(embedder, queue_s, at_once)
        self._served: str | None = None

    async def check(self) -> str:
        """The served model's fingerprint."""
        return (await self._embed(b"ready?", "text", Lane.SEARCH)).fingerprint

    def refusal(self, lane: Lane) -> Overloaded | None:
        """What a content that comes now would be told, where the lane to the model has no room for it."""
        return self.lanes.refusal(lane)

    async def embed_content(self, original: Original, content_type: ContentType) -> Embedding:
        """The vector of what is added."""
        return await self._embed(original.data, content_type, Lane.ADD)

    async def embed_query(self, original: Original, content_type: ContentType) -> Embedding:
        """The vector of what is asked; the same query twice asks the model once."""
        sha256 = original.sha256
        query = self.queries.get(await self.fingerprint(), content_type, sha256)
        if query is None:
            query = await self._embed(original.data, content_type, Lane.SEARCH)
            self.queries.put(content_type, sha256, query)
        return query

    async def fingerprint(self) -> str | None:
        """Of the model of the stored vectors or, as long as nothing is stored, of the served one."""
        return await self._store.fingerprint() or self._served

    def served(self) -> str | None:
        """The fingerprint TorchServe had when it was last asked; None before."""
        return self._served

    def answers(self) -> bool:
        """Whether the last call got an answer."""
        return self._embedder.answers()

    async def _embed(self, data: bytes, content_type: ContentType, lane: Lane) -> Embedding:
        embedding = await self.lanes.embed(data, content_type, lane)
        self._served = embedding.fingerprint
        await self._store.check_model(embedding.fingerprint)
        return embedding
