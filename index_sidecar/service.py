"""The product: add a content, retrieve the most similar ones, look at one, delete one.

A write first reaches the store, where it survives everything, then the index, which can be rebuilt from the store at
any time; only then it is acknowledged. Calls for the same id wait for each other, so that store and index agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from .content import (
    CONTENT_TYPES,
    Content,
    ContentType,
    Embedding,
    Hit,
    IndexState,
    NotFound,
    NotReady,
    Target,
    digest,
    ranked,
)
from .ports import Embedder, VectorIndex
from .store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an `add_content`; `duplicate_of` names other ids with the same bytes, oldest first."""

    status: Literal["added", "unchanged", "replaced"]
    content: Content
    duplicate_of: list[str]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answers, best first; `truncated` when the query text was cut to the model's 77 tokens."""

    hits: list[Hit]
    truncated: bool


class ContentService:
    """Everything the routes can ask for. Raises only ContentError for what callers do or TorchServe does not do."""

    def __init__(self, store: Store, embedder: Embedder, index: VectorIndex) -> None:
        self._store = store
        self._embedder = embedder
        self._index = index
        self._turns: dict[str, _Turns] = {}
        self.ready = False
        self.served: str | None = None  # the model TorchServe had when it was last asked

    async def load_index(self) -> None:
        """Fill the empty index from the store; until then every call but this raises NotReady."""
        started = time.monotonic()
        await self._index.load(self._store)
        self.ready = True
        logger.info("index ready: %d contents in %.1f s", sum(self.counts().values()), time.monotonic() - started)

    async def check_model(self) -> str:
        """The served model's fingerprint. Raises ModelMismatch when the stored vectors are of another one."""
        embedding = await self._embed(b"ready?", "text", "check-model")
        return embedding.fingerprint

    async def add_content(
        self, data: bytes, content_id: str, content_type: ContentType, user: str | None, request_id: str
    ) -> Added:
        """Encode a text or an image and store it under its id: durable and searchable when this returns.

        The same bytes, type and user under the same id change nothing; bytes stored before under any id are not
        encoded again.
        """
        self.check_ready()
        sha256 = digest(data)
        async with self._alone(content_id):
            before = await self._store.get(content_id)
            same_bytes = await self._store.same_bytes(sha256, content_type)
            duplicate_of = [other.id for other in same_bytes if other.id != content_id]
            if before and (before.sha256, before.type, before.user) == (sha256, content_type, user):
                return Added("unchanged", before, duplicate_of)
            if same_bytes:
                embedding = same_bytes[0].embedding
            else:
                embedding = await self._embed(data, content_type, request_id)
            content = Content(content_id, content_type, user, sha256, time.time(), embedding)
            await self._store.put(content)
            await self._index.upsert([content])
            return Added("replaced" if before else "added", content, duplicate_of)

    async def retrieve(
        self,
        data: bytes,
        k: int,
        content_type: ContentType,
        target: Target,
        without_user: str | None,
        request_id: str,
    ) -> Retrieved:
        """The contents most similar to a text or an image, without those of `without_user`.

        One ranking of the k best of both types for `any` or of one type; for `each`, the k best texts, then the k
        best images.
        """
        self.check_ready()
        query = await self._embed(data, content_type, request_id)
        types = [target] if target in ("text", "image") else CONTENT_TYPES
        answers = await asyncio.gather(*(self._index.search(query.vector, k, each, without_user) for each in types))
        hits = [hit for answer in answers for hit in answer]
        return Retrieved(hits if target == "each" else ranked(hits, k), query.truncated)

    async def get_content(self, content_id: str) -> Content:
        """What is stored under an id. Raises NotFound."""
        content = await self._store.get(content_id)
        if content is None:
            raise NotFound("no content has this id")
        return content

    async def delete_content(self, content_id: str) -> None:
        """Forget a content, durably. Raises NotFound."""
        self.check_ready()
        async with self._alone(content_id):
            if not await self._store.delete(content_id):
                raise NotFound("no content has this id")
            await self._index.delete(content_id)

    def counts(self) -> dict[ContentType, int]:
        """How many contents of each type can be found."""
        return {content_type: self._index.count(content_type) for content_type in CONTENT_TYPES}

    def index_states(self) -> dict[ContentType, IndexState]:
        """How the contents of each type are searched at the moment."""
        return {content_type: self._index.state(content_type) for content_type in CONTENT_TYPES}

    @property
    def fingerprint(self) -> str | None:
        """The model of the stored vectors; None as long as nothing is stored."""
        return self._store.fingerprint

    async def _embed(self, data: bytes, content_type: ContentType, request_id: str) -> Embedding:
        embedding = await self._embedder.embed(data, content_type, request_id)
        self.served = embedding.fingerprint
        self._store.check_model(embedding.fingerprint)
        return embedding

    def check_ready(self) -> None:
        """Raises NotReady until the index holds everything the store holds."""
        if not self.ready:
            raise NotReady("the index is being built from the store; try again when /ready answers 200")

    @contextlib.asynccontextmanager
    async def _alone(self, content_id: str) -> AsyncIterator[None]:
        """Calls that change the same id, one after the other in the order they came."""
        turns = self._turns.setdefault(content_id, _Turns())
        turns.callers += 1
        try:
            async with turns.lock:
                yield
        finally:
            turns.callers -= 1
            if turns.callers == 0:
                del self._turns[content_id]


class _Turns:
    """The lock of one id and how many callers hold or await it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.callers = 0
