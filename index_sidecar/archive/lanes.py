"""The way to the model: a short queue in two lanes, so that no import keeps a search waiting, and nobody waits in vain.

Searches go first. Only so much is under way that the model stays busy: what it has been given it computes in the order
it came, so whatever is under way is ahead of the next search, and it is too late to refuse it. How much that is, the
model's speed of late tells. Additions may have all of it while nobody searches, since larger batches are faster.

Whoever would wait longer than `queue_s`, as far as the work ahead and the model's speed of late tell, is refused at
once: an answer that comes too late costs as much as one in time (Dean & Barroso 2013, "The Tail at Scale"). Whoever has
left is forgotten, and so is a picture that the model puts aside because it takes long to decode: it is in nobody's way.
Work is counted in short texts, a picture being eight.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from enum import Enum

from .content import ContentType, Embedding
from .errors import Overloaded
from .ports import Embedder
from .stages import stage

WORK: dict[ContentType, int] = {"text": 1, "image": 8}
"""Of one content, in short texts: as measured, 411 of these a second against 50 pictures."""
_UNDER_WAY_S = 0.5  # of the model's time, between these two
_LEAST_UNDER_WAY = 32  # two batches of texts
_MOST_UNDER_WAY = 256
_CONTENTS_AT_FIRST = 32  # two batches of anything, until the speed is known
_ADDED_BESIDE_SEARCHES = 8  # one picture: a search waits for it, and takes the next along in its own batch
_SEARCHES_COUNT_S = 1.0  # how long additions step aside after a search
_MEASURED_S = 0.5
_SMOOTHING = 0.3
_MOST_IDLE = 0.1  # of the time of a measure that tells all the model can do
_KNOWN_S = 10.0  # how long that is believed
_LONGEST_RETRY_S = 60


class Lane(Enum):
    """What the model is asked for."""

    SEARCH = "search"
    ADD = "add"


class _Waiting:
    """One content in the queue."""

    __slots__ = ("lane", "turn", "work")

    def __init__(self, work: int, lane: Lane) -> None:
        self.work = work
        self.lane = lane
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Lanes:
    """Asks the model, a bounded amount at a time."""

    def __init__(self, embedder: Embedder, queue_s: float, at_once: int = _MOST_UNDER_WAY) -> None:
        """`at_once`: how many contents the embedder takes without having any of them wait."""
        self._at_once = at_once
        self._given = 0  # of them
        self._embedder = embedder
        self._queue_s = queue_s
        self._waiting: dict[Lane, deque[_Waiting]] = {lane: deque() for lane in Lane}
        self._queued = dict.fromkeys(Lane, 0)  # work that waits
        self._under_way = dict.fromkeys(Lane, 0)
        self._searched_at = -math.inf
        self.refused = dict.fromkeys(Lane, 0)
        """How many contents were, since the start."""
        self._speed = _Speed()

    async def embed(self, data: bytes, content_type: ContentType, lane: Lane) -> Embedding:
        """As `Embedder.embed`, when it is this content's turn. Raises Overloaded when that is too far off."""
        if lane is Lane.SEARCH:
            self._searched_at = _now()
        if (refusal := self.refusal(lane)) is not None:
            self.refused[lane] += 1
            raise refusal
        waiting = _Waiting(WORK[content_type], lane)
        with stage("wait"):
            await self._wait(waiting)
        aside = False

        def put_aside() -> None:
            nonlocal aside
            aside = True
            self._ended(waiting)
            self._speed.restart()  # what was done meanwhile was done beside decoding
            self._begin_next()

        try:
            with stage("embed"):
                return await self._embedder.embed(data, content_type, put_aside)
        finally:
            if not aside:
                self._ended(waiting)
                self._speed.done(waiting.work, busy=self._busy())
                self._begin_next()

    def depth(self, lane: Lane) -> int:
        """How many contents wait in a lane."""
        return len(self._waiting[lane])

    def refusal(self, lane: Lane) -> Overloaded | None:
        """What a content that comes now would be told, where it would wait too long."""
        if not self._speed.is_all_it_can:
            return None
        ahead = self._queued[Lane.SEARCH] + sum(self._under_way.values())
        if lane is Lane.ADD:
            ahead += self._queued[Lane.ADD]
        wait_s = ahead / self._speed.work_a_second
        return _overloaded(wait_s) if wait_s > self._queue_s and self._queued[lane] else None

    async def _wait(self, waiting: _Waiting) -> None:
        self._waiting[waiting.lane].append(waiting)
        self._queued[waiting.lane] += waiting.work
        self._begin_next()
        try:
            async with asyncio.timeout(self._queue_s):
                await waiting.turn
        except TimeoutError:
            if not waiting.turn.done() or waiting.turn.cancelled():
                self._forget(waiting)
                self.refused[waiting.lane] += 1
                raise _overloaded(self._queue_s) from None
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():
                self._ended(waiting)
                self._begin_next()
            else:
                self._forget(waiting)
            raise

    def _forget(self, waiting: _Waiting) -> None:
        if waiting in self._waiting[waiting.lane]:
            self._waiting[waiting.lane].remove(waiting)
            self._queued[waiting.lane] -= waiting.work

    def _begin_next(self) -> None:
        for lane in (Lane.SEARCH, Lane.ADD):
            waiting = self._waiting[lane]
            while waiting and self._has_room(waiting[0]):
                first = waiting.popleft()
                self._queued[lane] -= first.work
                if first.turn.cancelled():  # who waits for it is about to hear
                    continue
                self._under_way[lane] += first.work
                self._given += 1
                first.turn.set_result(None)
                self._speed.begin()
        self._speed.waits(any(self._queued.values()))

    def _ended(self, waiting: _Waiting) -> None:
        self._under_way[waiting.lane] -= waiting.work
        self._given -= 1

    def _has_room(self, waiting: _Waiting) -> bool:
        if not self._given:
            return True
        if self._given >= self._at_once:
            return False
        if sum(self._under_way.values()) + waiting.work > self._most_under_way():
            return False
        if waiting.lane is Lane.SEARCH:
            return True
        if _now() - self._searched_at > _SEARCHES_COUNT_S:
            return True
        return self._under_way[Lane.ADD] + waiting.work <= _ADDED_BESIDE_SEARCHES

    def _most_under_way(self) -> float:
        if math.isinf(self._speed.work_a_second):
            return _MOST_UNDER_WAY if self._given < _CONTENTS_AT_FIRST else 0
        return min(max(_LEAST_UNDER_WAY, self._speed.work_a_second * _UNDER_WAY_S), _MOST_UNDER_WAY)

    def _busy(self) -> bool:
        return bool(self._given) or any(self._queued.values())


class _Speed:
    """How much work the model did a second of late, while it had any."""

    def __init__(self) -> None:
        self.work_a_second = math.inf  # until it is known
        self._measured_at = -math.inf
        self._was_full = False
        # Of the measure that is being taken:
        self._since: float | None = None
        self._done = 0
        self._idle_s = 0.0  # how long nothing waited
        self._idle_since: float | None = 0.0

    @property
    def is_all_it_can(self) -> bool:
        """Whether work waited while it was measured: a model that is given little does little, however fast it is."""
        return self._was_full and _now() - self._measured_at < _KNOWN_S

    def begin(self) -> None:
        """There is work for the model."""
        if self._since is None:
            self.restart()

    def waits(self, some: bool) -> None:
        """Whether from now on work waits that the model is not given yet."""
        now = _now()
        if self._idle_since is not None:
            self._idle_s += now - self._idle_since
        self._idle_since = None if some else now

    def done(self, work: int, busy: bool) -> None:
        """So much is done; `busy` tells whether there is more."""
        if self._since is None:
            return
        self._done += work
        now = _now()
        if now - self._since >= _MEASURED_S:
            idle_s = self._idle_s if self._idle_since is None else self._idle_s + now - self._idle_since
            self._measured(self._done / (now - self._since), idle_s < _MOST_IDLE * (now - self._since))
            self.restart()
        if not busy:
            self._since = None

    def _measured(self, speed: float, full: bool) -> None:
        # What is measured first, or first at its full, counts at once.
        if math.isinf(self.work_a_second) or (full and not self.is_all_it_can):
            self.work_a_second = speed
        self.work_a_second += _SMOOTHING * (speed - self.work_a_second)
        self._was_full, self._measured_at = full, _now()

    def restart(self) -> None:
        """Forget what is being measured, and measure anew."""
        self._since, self._done, self._idle_s = _now(), 0, 0.0
        if self._idle_since is not None:
            self._idle_since = self._since


def _now() -> float:
    return asyncio.get_running_loop().time()


def _overloaded(wait_s: float) -> Overloaded:
    error = Overloaded("more contents wait for the embedding model than it can take in time; try again later")
    error.retry_after_s = min(max(1, math.ceil(wait_s)), _LONGEST_RETRY_S)
    return error
