"""The product: add a content, retrieve the most similar ones, recommend new ones, look at them, erase them.

A write first reaches the store, where it survives everything, then the index, which can be rebuilt from the store at
any time; only then it is acknowledged. Calls for the same id wait for each other, so that store and index agree. On a
cluster both are one, and other sidecars write to it, too: so nothing of the archive is remembered here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .content import CONTENT_TYPES, Content, ContentType, Embedding, Hit, IndexState, Original, Page, Vector, ranked
from .errors import Forbidden, NotFound, NotReady
from .ports import Embedder, Previewer, Store, VectorIndex, Written
from .query_cache import QueryCache
from .recommender import Recommended, Recommender
from .relevance import Calibration, Calibrator
from .search import Search
from .turns import Turns

_NEAR_DUPLICATES_NAMED = 100
_ERASED_A_STEP = 200  # a transaction that other writes wait for: some 10 ms


@dataclass(frozen=True, slots=True)
class Added:
    """What became of an `add_content`; `duplicate_of` names other ids with the same bytes, oldest first.

    `near_duplicates` are contents of other bytes but the same type and nearly the same vector, nearest first. What was
    replaced is in no answer; whether it is in no file either, `overwritten` tells.
    """

    status: Literal["added", "unchanged", "replaced"]
    content: Content
    duplicate_of: list[str]
    near_duplicates: list[Hit]
    overwritten: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """How many contents are in no answer any more, and whether they are in no file either."""

    count: int
    overwritten: bool


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The answers, best first; `truncated` when the query text was cut to the model's 77 tokens."""

    hits: list[Hit]
    truncated: bool


class ContentService:
    """Everything the routes can ask for. Raises only ContentError for what callers do or TorchServe does not do."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        index: VectorIndex,
        previews: Previewer,
        queries: QueryCache,
        erase_wait_s: float,
    ) -> None:
        """`erase_wait_s`: how long a call that erases waits for the overwriting, which goes on all the same."""
        self._store = store
        self._embedder = embedder
        self._index = index
        self._previews = previews
        self._queries = queries
        self._erase_wait_s = erase_wait_s
        self._calibrator = Calibrator(store.sample)
        self._recommender = Recommender(store, index, self._calibration)
        self._turns = Turns()
        self._ready = False
        self._served: str | None = None

    async def check_model(self) -> str:
        """The served model's fingerprint. Raises ModelMismatch when the stored vectors are of another one."""
        embedding = await self._embed(b"ready?", "text")
        return embedding.fingerprint

    async def add_content(
        self,
        original: Original,
        content_id: str,
        content_type: ContentType,
        user: str | None,
        near: float | None = None,
        only_user: str | None = None,
    ) -> Added:
        """Encode a text or an image and store it under its id: durable and searchable when this returns.

        The same bytes, type and user under the same id change nothing; bytes stored before under any id are not
        encoded again. From the cosine `near` on, others count as near duplicates. Raises Forbidden where the id holds
        the content of another than `only_user`.
        """
        self.check_ready()
        sha256 = original.sha256
        async with self._turns.of(content_id):
            before = await self._store.get(content_id)
            _check_owner(before, only_user)
            same_bytes = await self._store.same_bytes(sha256, content_type)
            status: Literal["added", "unchanged", "replaced"]
            written = Written([])
            if before and (before.sha256, before.type, before.user) == (sha256, content_type, user):
                status, content = "unchanged", before
            else:
                if same_bytes:
                    embedding = same_bytes[0].embedding
                else:
                    embedding = await self._embed(original.data, content_type)
                preview = await self._previews.make(original.data, content_type)
                original.release()
                content = Content(content_id, content_type, user, sha256, time.time(), embedding)
                written = await self._store.put(content, preview)
                await self._index.upsert([content])
                status = "replaced" if before else "added"
        duplicate_of = [other.id for other in same_bytes if other.id != content_id]
        near_duplicates = [] if near is None else await self._near_duplicates(content, duplicate_of, near)
        overwritten = await written.is_overwritten(self._erase_wait_s)
        return Added(status, content, duplicate_of, near_duplicates, overwritten)

    async def _near_duplicates(self, content: Content, duplicate_of: list[str], near: float) -> list[Hit]:
        known = {content.id, *duplicate_of}
        hits = await self._index.search(
            content.embedding.vector, len(known) + _NEAR_DUPLICATES_NAMED, content.type, None
        )
        return [hit for hit in hits if hit.score >= near and hit.id not in known][:_NEAR_DUPLICATES_NAMED]

    async def retrieve(self, original: Original, content_type: ContentType, search: Search) -> Retrieved:
        """The contents most similar to a text or an image.

        One ranking of the k best of both types for `any` or of one type; for `each`, the k best texts, then the k
        best images.
        """
        self.check_ready()
        query = await self._embed_query(original, content_type)
        original.release()
        return Retrieved(await self._search(query.vector, content_type, search), query.truncated)

    async def similar(self, content_id: str, search: Search) -> list[Hit]:
        """The other contents most similar to a stored one, which the model is not asked for. Raises NotFound."""
        self.check_ready()
        content = await self.get_content(content_id)
        one_more = replace(search, k=search.k + 1)
        hits = await self._search(content.embedding.vector, content.type, one_more)
        others = [hit for hit in hits if hit.id != content_id]
        if search.target == "each":
            return [hit for each in CONTENT_TYPES for hit in [o for o in others if o.type == each][: search.k]]
        return others[: search.k]

    async def _search(self, vector: Vector, query_type: ContentType, search: Search) -> list[Hit]:
        searches = (self._index.search(vector, search.k, each, search.without_user) for each in search.types)
        calibration, answers = await asyncio.gather(self._calibration(), asyncio.gather(*searches))
        hits = []
        for hit in (hit for answer in answers for hit in answer):
            relevance = calibration.relevance(hit.score, query_type, hit.type)
            too_low = search.min_score is not None and hit.score < search.min_score
            irrelevant = relevance is not None and relevance < (search.min_relevance or 0.0)
            if not too_low and not irrelevant:
                hits.append(replace(hit, relevance=relevance))
        return hits if search.target == "each" else ranked(hits, search.k, search.rank)

    async def recommend(
        self, user: str, search: Search, diversity: float, seed: int, history_types: Sequence[ContentType]
    ) -> Recommended:
        """Contents that others added, in proportion to what the user's own are about; grouping.py tells how.

        Only stored vectors are compared: the model is not asked. The same seed gives the same answer. Of `search`,
        `k` and `target` count.
        """
        self.check_ready()
        return await self._recommender.recommend(user, search, diversity, seed, history_types)

    async def get_content(self, content_id: str) -> Content:
        """What is stored under an id. Raises NotFound."""
        content = await self._store.get(content_id)
        if content is None:
            raise NotFound("no content has this id")
        return content

    async def delete_content(self, content_id: str, only_user: str | None = None) -> Erased:
        """Erase a content, durably. Raises NotFound, or Forbidden where it is another's than `only_user`."""
        self.check_ready()
        async with self._turns.of(content_id):
            if only_user is not None:
                _check_owner(await self._store.get(content_id), only_user)
            written = await self._store.delete(content_id)
            if not written.gone:
                raise NotFound("no content has this id")
            await self._index.delete([content_id])
        return Erased(1, await written.is_overwritten(self._erase_wait_s))

    async def delete_user(self, user: str) -> Erased:
        """Erase all that a user added, durably and a step at a time; what fails midway is finished by the next call.

        What is being added for the user meanwhile comes either before, and is erased, or after, and stays.
        """
        self.check_ready()
        count, after, written = 0, None, Written([])
        while True:
            page = await self._store.page(user, None, _ERASED_A_STEP, after)
            step = sorted(entry.id for entry in page.contents)
            async with contextlib.AsyncExitStack() as turns:
                for content_id in step:
                    await turns.enter_async_context(self._turns.of(content_id))
                if step:
                    erased = await self._store.delete_many(step, user)
                    await self._index.delete(erased.gone)
                    count += len(erased.gone)
                    written = erased if erased.gone else written
            after = page.next
            if after is None:  # an overwriting covers all that was erased before
                return Erased(count, await written.is_overwritten(self._erase_wait_s))

    async def page(self, user: str | None, content_type: ContentType | None, limit: int, after: str | None) -> Page:
        """Some contents, of one user and one type where they are given, from the cursor `after` on."""
        return await self._store.page(user, content_type, limit, after)

    async def preview(self, content_id: str) -> tuple[Content, bytes]:
        """A content and its preview: a WebP file, or UTF-8. Raises NotFound."""
        found = await self._store.preview(content_id)
        if found is None:
            await self.get_content(content_id)
            raise NotFound("this content has no preview", "no_preview")
        return found

    async def counts(self) -> dict[ContentType, int]:
        """How many contents of each type can be found."""
        counts = await asyncio.gather(*(self._index.count(each) for each in CONTENT_TYPES))
        return dict(zip(CONTENT_TYPES, counts, strict=True))

    async def _calibration(self) -> Calibration:
        return await self._calibrator.current(await self.counts())

    async def index_states(self) -> dict[ContentType, IndexState]:
        """How the contents of each type are searched at the moment."""
        return {content_type: await self._index.state(content_type) for content_type in CONTENT_TYPES}

    async def model(self) -> str | None:
        """The fingerprint of the model of the stored vectors or, as long as nothing is stored, of the served one."""
        return await self._store.fingerprint() or self._served

    def served_model(self) -> str | None:
        """The fingerprint TorchServe had when it was last asked; None before."""
        return self._served

    def erasures_due(self) -> int:
        """How many contents are in no answer any more, but still in a file."""
        return self._store.erasures_due()

    async def check_storage(self) -> None:
        """Raises StorageUnavailable unless stored contents can be read now."""
        await self._store.check()

    async def _embed_query(self, original: Original, content_type: ContentType) -> Embedding:
        """As `_embed`, but the same query twice asks the model once."""
        sha256 = original.sha256
        query = self._queries.get(await self.model(), content_type, sha256)
        if query is None:
            query = await self._embed(original.data, content_type)
            self._queries.put(content_type, sha256, query)
        return query

    async def _embed(self, data: bytes, content_type: ContentType) -> Embedding:
        embedding = await self._embedder.embed(data, content_type)
        self._served = embedding.fingerprint
        await self._store.check_model(embedding.fingerprint)
        return embedding

    def set_ready(self) -> None:
        """From now on every call is served: the index holds everything the store holds."""
        self._ready = True

    def is_ready(self) -> bool:
        """Whether the index holds everything the store holds."""
        return self._ready

    def check_ready(self) -> None:
        """Raises NotReady until the index holds everything the store holds."""
        if not self._ready:
            raise NotReady("the index is being built from the store; try again when /ready answers 200")


def _check_owner(content: Content | None, only_user: str | None) -> None:
    if content is not None and only_user not in (None, content.user):
        raise Forbidden("this content belongs to another user than the one this key is bound to")
