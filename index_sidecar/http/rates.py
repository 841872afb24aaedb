"""How much one caller may ask for: requests, work for the model, and requests at the same time.

Counted by API key, else by peer (peers.py), each limit for itself. Windows are fixed: one counter a caller and limit,
so that the table stays small; past `_MOST_COUNTERS` new callers share one, so that many addresses are no way around.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator

from limits import RateLimitItem, parse
from limits.strategies import FixedWindowRateLimiter

from ..archive.errors import TooManyRequests
from .windows import Windows

_MOST_COUNTERS = 10_000
_OTHERS = "others"
_WRONG_KEYS = parse("20/minute")
PICTURE_COST = 8
"""Work of a picture beside a short text's, as measured (bench/embedding.py): 50 a second against 411."""
_UNITS = {
    "requests": "requests",
    "model": f"texts for the model (a picture counts as {PICTURE_COST})",
    "wrong keys": "wrong API keys",
}
_TOLD = ("requests", "model")


def rate(value: str) -> RateLimitItem | None:
    """A setting like "600/minute", or "" for no limit."""
    return parse(value) if value else None


class Rates:
    """Counts what callers ask for."""

    def __init__(self, requests: RateLimitItem | None, model: RateLimitItem | None, at_once: int) -> None:
        """`model` counts texts, a picture as eight; `at_once` are requests of one caller, 0 for no limit."""
        self._limits = {"requests": requests, "model": model, "wrong keys": _WRONG_KEYS}
        self._at_once = at_once
        self._under_way: Counter[str] = Counter()
        self._windows = Windows(_MOST_COUNTERS)
        self._limiter = FixedWindowRateLimiter(self._windows)
        self._told = [(name, item) for name in _TOLD if (item := self._limits[name]) is not None]
        self.policy = ", ".join(f'"{name}";q={item.amount};w={item.get_expiry()}' for name, item in self._told)
        """What callers may use up, for `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers); "" for no limit."""

    def take(self, name: str, caller: str, cost: int = 1) -> None:
        """Count `cost` of the limit `name` against a caller. Raises TooManyRequests past the limit."""
        item = self._limits[name]
        if item is None:
            return
        caller, cost = self._counted(name, item, caller), min(cost, item.amount)
        # What is refused costs nothing; where not even 1 is left, 1 more makes no difference.
        may = cost == 1 or self._limiter.test(item, name, caller, cost=cost)
        if may and self._limiter.hit(item, name, caller, cost=cost):
            return
        _, reset_s = self._left(name, item, caller)
        raise TooManyRequests(
            f"{item.amount} {_UNITS[name]} in {item.get_expiry()} s are what one caller may send; try again in"
            f" {reset_s} s",
            retry_after_s=reset_s,
        )

    @contextlib.contextmanager
    def one_of_many(self, caller: str) -> Iterator[None]:
        """A request of this caller is under way as long as the block runs. Raises TooManyRequests."""
        if self._at_once and self._under_way[caller] >= self._at_once:
            raise TooManyRequests(f"one caller may have {self._at_once} requests under way at once", retry_after_s=1)
        self._under_way[caller] += 1
        try:
            yield
        finally:
            self._under_way[caller] -= 1
            if not self._under_way[caller]:
                del self._under_way[caller]

    def state(self, caller: str) -> str:
        """What is left to a caller of what it may use up, for `RateLimit`: how much, and until when in seconds."""
        left = ((name, *self._left(name, item, self._counted(name, item, caller))) for name, item in self._told)
        return ", ".join(f'"{name}";r={amount};t={reset_s}' for name, amount, reset_s in left)

    def _counted(self, name: str, item: RateLimitItem, caller: str) -> str:
        known = not self._windows.is_full() or item.key_for(name, caller) in self._windows
        return caller if known else _OTHERS

    def _left(self, name: str, item: RateLimitItem, caller: str) -> tuple[int, int]:
        key, window_s = item.key_for(name, caller), item.get_expiry()
        reset_s = math.ceil(self._windows.get_expiry(key) - time.monotonic())
        return max(0, item.amount - self._windows.get(key)), max(1, min(reset_s, window_s))
