"""The product: add a content, retrieve the most similar ones, recommend new ones, look at them, erase them.

What is written reaches store and index in one step (writes.py); what the model is asked for waits in one of two lanes
(model.py). On a cluster store and index are one, and other sidecars write to it, too: so nothing of the archive is
remembered here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from .content import CONTENT_TYPES, Content, ContentType, Hit, IndexState, Original, Page
from .errors import EmbedderUnavailable, NotFound, NotReady, Taken
from .finder import Asked, Finder
from .metadata import Metadata, merged
from .model import Model
from .originals import Keeping
from .ports import Previewer, Store, VectorIndex, Written
from .questions import Part, Term, combined
from .recommender import Recommended, Recommender
from .relevance import Calibration, Calibrator
from .results import Added, Erased, Retrieved
from .search import Listed, Search
from .takeover import Takeover
from .writes import Writes, check_owner, is_same


class ContentService:
    """Everything the routes can ask for. Raises only ContentError for what callers do or TorchServe does not do."""

    def __init__(
        self,
        store: Store,
        model: Model,
        index: VectorIndex,
        previews: Previewer,
        erase_wait_s: float,
        queue_s: float,
        write_limit_s: float,
        keeps: Collection[ContentType] = (),
    ) -> None:
        """`erase_wait_s`: how long a call that erases waits for the overwriting, which goes on all the same.
        `queue_s`: how long a recommendation, or a search that looks deep, may wait for its turn; `write_limit_s`: how
        long a write may take; `keeps`: of which types the originals are kept.
        """
        self._store = store
        self._index = index
        self._previews = previews
        self._erase_wait_s = erase_wait_s
        self.originals = Keeping(store, keeps)
        self.model = model
        self._calibrator = Calibrator(store.sample)
        self._finder = Finder(store, index, self._calibration, queue_s)
        self._recommender = Recommender(store, index, self._calibration, queue_s)
        self._writes = Writes(store, index, lambda: self.set_ready(False), write_limit_s)
        self.takeover = Takeover(store, self._writes, model, self.check_ready, erase_wait_s, self.originals)
        self._ready = False

    async def add_content(
        self,
        original: Original,
        content_id: str,
        content_type: ContentType,
        user: str | None,
        near: float | None = None,
        only_user: str | None = None,
        only_new: bool = False,
        metadata: Metadata | None = None,
    ) -> Added:
        """Encode a text or an image and store it under its id: durable and searchable when this returns.

        The same bytes, type, user and metadata under the same id change nothing, and so do they where no metadata is
        given, but that the content gets its original where it lacks it and such are kept. Bytes stored before under any
        id are not encoded again. From the cosine `near` on, others count as near
        duplicates. Raises Forbidden where the id holds the content of another than `only_user`, and Taken with
        `only_new` where it holds any: of several that ask for it at once, one gets it.
        """
        self.check_ready()
        sha256 = original.sha256
        async with self._writes.turns.of(content_id):
            before = await self._store.get(content_id)
            check_owner(before, only_user)
            if before is not None and only_new:
                raise Taken("this id holds a content already")
            same_bytes = await self._store.same_bytes(sha256, content_type)
            status: Literal["added", "unchanged", "replaced"]
            written = Written([])
            kept = self.originals.of(original.data, content_type)
            if before and is_same(before, sha256, content_type, user, metadata):
                status, content = "unchanged", before
                await self._writes.make_sure(content, kept)
            else:
                if same_bytes:
                    embedding = same_bytes[0].embedding
                else:
                    embedding = await self.model.embed_content(original, content_type)
                preview = await self._previews.make(original.data, content_type)
                if kept is None:
                    original.release()
                content = Content(content_id, content_type, user, sha256, time.time(), embedding, metadata or {})
                written = await self._writes.put(content, preview, kept)
                status = "replaced" if before else "added"
        del kept
        original.release()
        duplicate_of = [other.id for other in same_bytes if other.id != content_id]
        near_duplicates = [] if near is None else await self._finder.near_duplicates(content, duplicate_of, near)
        overwritten = await written.is_overwritten(self._erase_wait_s)
        return Added(status, content, duplicate_of, near_duplicates, overwritten)

    async def retrieve(self, original: Original, content_type: ContentType, search: Search) -> Retrieved:
        """The contents most similar to a text or an image.

        One ranking of the k best for `any` or for one type; for `each` the k best texts, then the k best images.
        """
        return await self.search([Part(original, content_type)], search)

    async def similar(self, content_id: str, search: Search) -> list[Hit]:
        """The other contents most similar to a stored one, which the model is not asked for. Raises NotFound."""
        return (await self.search([Part(content_id, None)], search)).hits

    async def search(self, parts: Sequence[Part], search: Search) -> Retrieved:
        """The contents most similar to some parts taken together, but for those that the parts name by id.

        Raises NotFound for an id that is not there, InvalidInput when the parts cancel each other out.
        """
        self.check_ready()
        asked = await asyncio.gather(*(self._term(part) for part in parts))
        terms = [term for term, _ in asked]
        vector = combined(terms, (await self._calibration()).means() if len(terms) > 1 else {})
        ids = {part.what for part in parts if isinstance(part.what, str)}
        hits = await self._finder.find(Asked(vector, terms[0].type if len(terms) == 1 else None, ids), search)
        return Retrieved(hits, any(truncated for _, truncated in asked))

    async def _term(self, part: Part) -> tuple[Term, bool]:
        """The vector of a part, and whether its text was cut for it."""
        if isinstance(part.what, str):
            content = await self.get_content(part.what)
            return Term(content.embedding.vector, content.type, part.weight), False
        assert part.type is not None
        query = await self.model.embed_query(part.what, part.type)
        part.what.release()
        return Term(query.vector, part.type, part.weight), query.truncated

    async def recommend(
        self, user: str, search: Search, diversity: float, seed: int, history_types: Sequence[ContentType]
    ) -> Recommended:
        """Contents that others added, in proportion to what the user's own are about; grouping.py tells how.

        The model is not asked. Of `search`, `k`, `target`, `filter` and `with_metadata` count. The same seed, the same.
        """
        self.check_ready()
        return await self._recommender.recommend(user, search, diversity, seed, history_types)

    async def get_content(self, content_id: str) -> Content:
        """What is stored under an id. Raises NotFound."""
        content = await self._store.get(content_id)
        if content is None:
            raise NotFound("no content has this id")
        return content

    async def change_metadata(self, content_id: str, patch: Any, only_user: str | None = None) -> tuple[Content, bool]:
        """The content with its metadata changed by a merge patch (RFC 7396), durably, and whether that changed it.

        Raises InvalidInput, NotFound, or Forbidden where it is another's than `only_user`.
        """
        self.check_ready()
        content, written = await self._writes.set_metadata(content_id, lambda before: merged(before, patch), only_user)
        if written is not None:
            await written.is_overwritten(self._erase_wait_s)
        return content, written is not None

    async def delete_content(self, content_id: str, only_user: str | None = None) -> Erased:
        """Erase a content, durably. Raises NotFound, or Forbidden where it is another's than `only_user`."""
        self.check_ready()
        written = await self._writes.delete(content_id, only_user)
        return Erased(1, await written.is_overwritten(self._erase_wait_s))

    async def delete_user(self, user: str) -> Erased:
        """Erase all that a user added, durably and a step at a time; what fails midway is finished by the next call.

        What is being added for the user meanwhile comes either before, and is erased, or after, and stays.
        """
        self.check_ready()
        count, written = await self._writes.delete_user(user)
        return Erased(count, await written.is_overwritten(self._erase_wait_s))

    async def page(self, of: Listed, limit: int, after: str | None) -> Page:
        """Some contents, from the cursor `after` on."""
        return await self._store.page(of.user, of.type, limit, after, of.filter, of.newest)

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

    def erasures_due(self) -> int:
        """How many contents are in no answer any more, but still in a file."""
        return self._store.erasures_due()

    def events(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """What the store and the index did since the start."""
        return self._store.events(), self._index.events()

    async def check_storage(self) -> None:
        """Raises StorageUnavailable unless stored contents can be read now."""
        await self._store.check()

    def set_ready(self, ready: bool = True) -> None:
        """Whether every call is served from now on: the index holds everything the store holds."""
        self._ready = ready

    def is_ready(self) -> bool:
        """Whether the index holds everything the store holds. If not, it has to be filled from the store (again)."""
        return self._ready and self._index.intact

    def check_ready(self) -> None:
        """Raises NotReady until the index holds everything the store holds."""
        if not self.is_ready():
            raise NotReady("the index is being filled from the store; try again when /ready answers 200")

    async def check_served(self) -> None:
        """Raises Unavailable, of one kind or another, unless every call is served now."""
        self.check_ready()
        await self._store.check()
        if not self.model.answers():
            raise EmbedderUnavailable("the embedding model does not answer at the moment")
        if (served := self.model.served()) is not None:
            await self._store.check_model(served)

    async def finish(self) -> None:
        """Wait for the writes under way, also of callers who have left."""
        await self._writes.finish()
