"""Recommendations out of store and index: the history in, its seeds' neighbours, the chosen ones out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .admission import Admission
from .cluster_cache import ClusterCache
from .content import CONTENT_TYPES, Content, ContentType
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
        candidates = await self._candidates(user, history, seeds, search)
        groups = [[each] for each in CONTENT_TYPES] if search.target == "each" else [CONTENT_TYPES]
        chosen: list[Recommendation] = []
        for group in groups:
            those = [content for content in candidates if content.type in group]
            chosen += await asyncio.to_thread(choose, those, seeds, search.k, diversity, calibration)
        if search.with_metadata:
            told = {content.id: content.metadata for content in candidates}
            chosen = [replace(each, hit=replace(each.hit, metadata=told[each.hit.id])) for each in chosen]
        return Recommended(chosen, None if chosen else "nothing_new")

    async def _candidates(self, user: str, history: list[Content], seeds: list[Seed], search: Search) -> list[Content]:
        """Contents near the seeds that are new to the user: k of each type asked for, where there are so many."""
        of_each = await asyncio.gather(*(self._candidates_of(user, history, seeds, search, t) for t in search.types))
        return [content for each in of_each for content in each]

    async def _candidates_of(
        self, user: str, history: list[Content], seeds: list[Seed], search: Search, content_type: ContentType
    ) -> list[Content]:
        k = search.k
        fetch = k + _SPARE_CANDIDATES
        among = await self._store.select(search.filter) if search.filter else None
        read: dict[str, Content] = {}
        while True:
            answers = await asyncio.gather(
                *(self._index.search(seed.content.embedding.vector, fetch, content_type, user, among) for seed in seeds)
            )
            ids = {hit.id for answer in answers for hit in answer}
            read |= {content.id: content for content in await self._store.get_many(sorted(ids - read.keys()))}
            others = [read[each] for each in sorted(ids & read.keys()) if read[each].user != user]
            new = await asyncio.to_thread(new_to, history, others)
            if len(new) >= k or fetch >= _MOST_CANDIDATES or all(len(answer) < fetch for answer in answers):
                return new
            fetch = min(4 * fetch, _MOST_CANDIDATES)
