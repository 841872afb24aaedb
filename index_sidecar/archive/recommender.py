"""Recommendations out of store and index: the history in, its seeds' neighbours, the chosen ones out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .admission import Admission
from .cluster_cache import ClusterCache
from .content import Content, ContentType
from .filters import Selection
from .grouping import HISTORY, Recommendation, Seed, choose, new_to, seeds_of_all
from .ports import Store, VectorIndex
from .relevance import Calibration
from .search import Search
from .stages import stage

_SPARE_CANDIDATES = 20
_MOST_CANDIDATES = 1000  # a seed
_CLUSTERS_BYTES = 16 * 1024 * 1024  # of some thousand users


@dataclass(frozen=True, slots=True)
class Recommended:
    """The recommendations, best first, and why there are none if there are none."""

    recommendations: list[Recommendation]
    reason: Literal["no_history", "nothing_new"] | None = None


class Recommender:
    """Finds what others added that follows from a user's own; grouping.py is the mathematics.

    One for each core is computed at a time: more would only take longer, each of them.
    """

    def __init__(
        self, store: Store, index: VectorIndex, calibration: Callable[[], Awaitable[Calibration]], queue_s: float
    ) -> None:
        """`queue_s`: how long a recommendation may wait for its turn."""
        self._store = store
        self._index = index
        self._calibration = calibration
        self._clusters = ClusterCache(_CLUSTERS_BYTES)
        self._admission = Admission(len(os.sched_getaffinity(0)), queue_s, "recommendations")

    async def recommend(
        self, user: str, search: Search, diversity: float, seed: int, history_types: Sequence[ContentType]
    ) -> Recommended:
        """As the service promises it. Raises Overloaded when too many are asked for."""
        async with self._admission.turn():
            with stage("search"):
                return await self._recommend(user, search, diversity, seed, history_types)

    async def _recommend(
        self, user: str, search: Search, diversity: float, seed: int, history_types: Sequence[ContentType]
    ) -> Recommended:
        histories = await asyncio.gather(*(self._store.history(user, each, HISTORY) for each in history_types))
        history = [content for each in histories for content in each]
        if not history:
            return Recommended([], "no_history")
        calibration = await self._calibration()
        seeds = await asyncio.to_thread(seeds_of_all, histories, seed, self._clusters.clusters_of)
        among = await self._store.select(search.filter) if search.filter else None
        new = _New(self._store, self._index, user, history, seeds, among, search.types)
        groups: list[Sequence[ContentType]] = (
            [[each] for each in search.types] if search.target == "each" else [search.types]
        )
        fetch = search.k + _SPARE_CANDIDATES
        while True:
            of_types = await asyncio.gather(*(new.of(each, fetch) for each in search.types))
            found = dict(zip(search.types, of_types, strict=True))
            chosen: list[Recommendation] = []
            short = {each for each in new.going_on if len(found[each]) < search.k}
            for group in groups:
                those = [content for each in group for content in found[each]]
                some = await asyncio.to_thread(choose, those, seeds, search.k, diversity, calibration)
                chosen += some
                # What is nearly identical to another takes no place: there may be many candidates, and few to choose.
                short |= new.going_on.intersection(group) if len(some) < search.k else set()
            if not short or fetch == _MOST_CANDIDATES:
                break
            fetch = min(4 * fetch, _MOST_CANDIDATES)
        if search.with_metadata:
            told = {content.id: content.metadata for of_type in found.values() for content in of_type}
            chosen = [replace(each, hit=replace(each.hit, metadata=told[each.hit.id])) for each in chosen]
        return Recommended(chosen, None if chosen else "nothing_new")


class _New:
    """Contents near the seeds that are new to the user, ever more of them."""

    def __init__(
        self,
        store: Store,
        index: VectorIndex,
        user: str,
        history: Sequence[Content],
        seeds: Sequence[Seed],
        among: Selection | None,
        types: Sequence[ContentType],
    ) -> None:
        self.going_on: set[ContentType] = set(types)  # of which there are more
        self._store, self._index = store, index
        self._user, self._history, self._seeds, self._among = user, history, seeds, among
        self._read: dict[str, Content] = {}
        self._found: dict[ContentType, list[Content]] = {}

    async def of(self, content_type: ContentType, fetch: int) -> list[Content]:
        """Those of a type among the `fetch` nearest to each seed."""
        if content_type in self.going_on:
            answers = await asyncio.gather(
                *(
                    self._index.search(seed.content.embedding.vector, fetch, content_type, self._user, self._among)
                    for seed in self._seeds
                )
            )
            ids = {hit.id for answer in answers for hit in answer}
            unread = sorted(ids - self._read.keys())
            self._read |= {content.id: content for content in await self._store.get_many(unread)}
            there = [self._read[each] for each in sorted(ids & self._read.keys())]
            others = [each for each in there if each.user != self._user]
            self._found[content_type] = await asyncio.to_thread(new_to, self._history, others)
            if all(len(answer) < fetch for answer in answers):
                self.going_on.discard(content_type)
        return self._found[content_type]
