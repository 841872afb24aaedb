"""From a question's vector to a page of hits: deep enough, the same order on every page, copies folded if wanted.

The index is asked for blocks of fixed sizes, and what a larger one adds comes behind what the smaller ones gave. So
the first 5 of 15 are the 5 of 5 whatever the index is: an approximate one that is asked for more meets others, too, and
by itself might put one of them in front. Only where two blocks of an approximate index meet may a score rise again.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from .admission import Admission
from .content import Content, ContentType, Hit, Vector
from .filters import Selection
from .folding import Folder
from .ports import Store, VectorIndex
from .relevance import Calibration
from .search import DEPTH, Search
from .stages import stage

_BLOCKS = (16, 128, 1024, DEPTH)
_READ = 500  # contents at a time, with their vectors: 1 MB
_DEEP_AT_ONCE = 2  # the deepest holds 20 MB of vectors

_NEAR_NAMED = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """A question's unit vector, and its type where it is that of one content: relevance is measured by it."""

    vector: Vector
    type: ContentType | None
    hidden: Collection[str] = ()  # ids that are in no answer


class Finder:
    """Asks the index and the store."""

    def __init__(
        self, store: Store, index: VectorIndex, calibration: Callable[[], Awaitable[Calibration]], queue_s: float
    ) -> None:
        """`queue_s`: how long a search that looks deep may wait for its turn."""
        self._store = store
        self._index = index
        self._calibration = calibration
        self._deep = Admission(_DEEP_AT_ONCE, queue_s, "searches that fold or look deep")

    async def near_duplicates(self, content: Content, duplicate_of: Sequence[str], near: float) -> list[Hit]:
        """Others of a content's type from the cosine `near` on, nearest first, at most 100."""
        known = {content.id, *duplicate_of}
        hits = await self._index.search(content.embedding.vector, len(known) + _NEAR_NAMED, content.type, None)
        return [hit for hit in hits if hit.score >= near and hit.id not in known][:_NEAR_NAMED]

    async def find(self, asked: Asked, search: Search) -> list[Hit]:
        """One page of one list of all types asked for; for `each`, a page of texts, then one of images.

        Raises Overloaded when too many look deep at once.
        """
        deep = search.fold or search.order == "newest" or search.end > _BLOCKS[-2]
        async with self._deep.turn() if deep else contextlib.nullcontext():
            with stage("search"):
                return await self._find(asked, search)

    async def _find(self, asked: Asked, search: Search) -> list[Hit]:
        of_types = await self._of_types(asked, search)
        if search.order == "newest":
            of_types = await self._newest_first(of_types)
        page = slice(search.offset, search.end)
        each = search.target == "each"
        hits = [hit for hits in of_types for hit in hits[page]] if each else _merged(of_types, search)[page]
        return await self._with_metadata(hits) if search.with_metadata else hits

    async def _with_metadata(self, hits: list[Hit]) -> list[Hit]:
        """What is gone by now is left out."""
        stored = {content.id: content.metadata for content in await self._store.get_many([hit.id for hit in hits])}
        return [replace(hit, metadata=stored[hit.id]) for hit in hits if hit.id in stored]

    async def _of_types(self, asked: Asked, search: Search) -> list[list[Hit]]:
        calibration = await self._calibration()
        if asked.type is None:
            calibration = await asyncio.to_thread(calibration.of_question, asked.vector)
        among = await self._store.select(search.filter) if search.filter else None
        return await asyncio.gather(*(self._of_type(asked, each, search, among, calibration) for each in search.types))

    async def _of_type(
        self,
        asked: Asked,
        content_type: ContentType,
        search: Search,
        among: Selection | None,
        calibration: Calibration,
    ) -> list[Hit]:
        """The hits of one type up to the page's end, or all that pass where age decides; best first."""
        folder = Folder() if search.fold else None
        wanted = search.end + len(asked.hidden)
        seen: set[str] = set(asked.hidden)
        passing: list[Hit] = []
        first, last = 0, _block_of(wanted)
        while True:
            blocks = _BLOCKS[first : last + 1]
            answers = await asyncio.gather(
                *(self._index.search(asked.vector, size, content_type, search.without_user, among) for size in blocks)
            )
            found = {hit.id: hit for hits in reversed(answers) for hit in hits}  # a hit's first mention counts
            fresh = [found[each] for each in dict.fromkeys(h.id for hits in answers for h in hits) if each not in seen]
            seen.update(hit.id for hit in fresh)
            rated = calibration.rated(fresh, asked.type or content_type)
            good = [hit for hit in rated if _passes(hit, search)]
            passing += good
            if folder is not None:
                await self._fold(folder, good)
            ended = len(answers[-1]) < blocks[-1] or (bool(rated) and not _passes(rated[-1], search))
            enough = len(passing if folder is None else folder.leaders) >= search.end and search.order == "best"
            if ended or enough or last == len(_BLOCKS) - 1:
                return passing if folder is None else folder.folded()
            first, last = last + 1, last + 1

    async def _fold(self, folder: Folder, hits: Sequence[Hit]) -> None:
        for start in range(0, len(hits), _READ):
            some = hits[start : start + _READ]
            contents = await self._store.get_many([hit.id for hit in some])
            await asyncio.to_thread(folder.add, some, contents)

    async def _newest_first(self, of_types: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
        """Each list by age; what is gone meanwhile is left out."""
        ids = [hit.id for hits in of_types for hit in hits]
        created: dict[str, float] = {}
        for start in range(0, len(ids), _READ):
            contents = await self._store.get_many(ids[start : start + _READ])
            created.update((content.id, content.created) for content in contents)
        there = ([replace(hit, created=created[hit.id]) for hit in hits if hit.id in created] for hits in of_types)
        return [sorted(hits, key=_age) for hits in there]


def _block_of(wanted: int) -> int:
    """The number of the smallest block that holds so many hits, or of the largest."""
    return next((number for number, size in enumerate(_BLOCKS) if size >= wanted), len(_BLOCKS) - 1)


def _passes(hit: Hit, search: Search) -> bool:
    if search.min_score is not None and hit.score < search.min_score:
        return False
    return search.min_relevance is None or hit.relevance is None or hit.relevance >= search.min_relevance


def _merged(of_types: Sequence[list[Hit]], search: Search) -> list[Hit]:
    """One list of several, each in the order it has: so what comes first does not depend on how long they are."""
    if search.order == "newest":
        return list(heapq.merge(*of_types, key=_age))
    known = all(hit.relevance is not None for hits in of_types for hit in hits)
    by_relevance = search.rank == "relevance" and known
    return list(heapq.merge(*of_types, key=_relevance if by_relevance else _score))


def _score(hit: Hit) -> tuple[float, str]:
    return -hit.score, hit.id


def _relevance(hit: Hit) -> tuple[float, float, str]:
    return -(hit.relevance or 0.0), -hit.score, hit.id


def _age(hit: Hit) -> tuple[float, str]:
    return -(hit.created or 0.0), hit.id
