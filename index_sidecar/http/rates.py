"""How much one caller may ask for: requests, work for the model, and requests at the same time.

Counted by API key, else by peer (peers.py). Windows are fixed: one counter a caller, so that the table of callers stays
small; past `_MOST_CALLERS` new ones share one counter, so that many addresses are no way around.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from ..archive.errors import TooManyRequests

_MOST_CALLERS = 10_000
_OTHERS = "others"
_WRONG_KEYS = parse("20/minute")
PICTURE_COST = 8
"""Work of a picture beside a short text's, as measured (bench/embedding.py): 50 a second against 411."""
_UNITS = {
    "requests": "requests",
    "model": f"texts for the model (a picture counts as {PICTURE_COST})",
    "wrong keys": "wrong API keys",
}


def rate(value: str) -> RateLimitItem | None:
    """A setting like "600/minute", or "" for no limit."""
    return parse(value) if value else None


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of one limit: its name, amount and seconds, how much is left and when it is whole again."""

    name: str
    amount: int
    window_s: int
    left: int
    reset_s: int

    @property
    def policy(self) -> str:
        """For `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers)."""
        return f'"{self.name}";q={self.amount};w={self.window_s}'

    @property
    def state(self) -> str:
        """For `RateLimit`."""
        return f'"{self.name}";r={self.left};t={self.reset_s}'


class Rates:
    """Counts what callers ask for. Every method raises TooManyRequests past a limit."""

    def __init__(self, requests: RateLimitItem | None, model: RateLimitItem | None, at_once: int) -> None:
        """`model` counts texts, a picture as eight; `at_once` are requests of one caller, 0 for no limit."""
        self._limits = {"requests": requests, "model": model, "wrong keys": _WRONG_KEYS}
        self._at_once = at_once
        self._under_way: Counter[str] = Counter()
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def take(self, name: str, caller: str, cost: int = 1) -> None:
        """Count `cost` of the limit `name` against a caller."""
        item = self._limits[name]
        if item is None:
            return
        caller = self._counted(item, caller)
        if not await self._limiter.hit(item, caller, cost=min(cost, item.amount)):
            quota = await self._quota(name, item, caller)
            raise TooManyRequests(
                f"{item.amount} {_UNITS[name]} in {item.get_expiry()} s are what one caller may send; try again in"
                f" {quota.reset_s} s",
                retry_after_s=quota.reset_s,
            )

    @contextlib.contextmanager
    def one_of_many(self, caller: str) -> Iterator[None]:
        """A request of this caller is under way as long as the block runs."""
        if self._at_once and self._under_way[caller] >= self._at_once:
            raise TooManyRequests(f"one caller may have {self._at_once} requests under way at once", retry_after_s=1)
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    async def quotas(self, caller: str) -> list[Quota]:
        """What is left to a caller of what it may use up."""
        return [
            await self._quota(name, item, self._counted(item, caller))
            for name in ("requests", "model")
            if (item := self._limits[name]) is not None
        ]

    def _counted(self, item: RateLimitItem, caller: str) -> str:
        known = len(self._storage.storage) < _MOST_CALLERS or item.key_for(caller) in self._storage.storage
        return caller if known else _OTHERS

    async def _quota(self, name: str, item: RateLimitItem, caller: str) -> Quota:
        stats = await self._limiter.get_window_stats(item, caller)
        reset_s = max(1, math.ceil(stats.reset_time - time.time()))
        return Quota(name, item.amount, item.get_expiry(), stats.remaining, min(reset_s, item.get_expiry()))
