"""Where `limits` counts: a counter for each caller and limit, which lives for one window of time, in this process.

Its own storage in memory begins a task at each hit that walks all counters: with ten thousand callers every request
costs a millisecond. This one looks its counter up, and walks all only when there are as many as there may be.
"""

from __future__ import annotations

import time

from limits.storage import Storage

_WALK_PAUSE_S = 1.0


class Windows(Storage):
    """Counters by key, for one event loop: no locks. Times are of the monotonic clock, which nobody sets back."""

    STORAGE_SCHEME = None

    def __init__(self, most: int) -> None:
        """`most` counters are held at once, for those who ask `is_full` before they begin another."""
        super().__init__()
        self._most = most
        self._counters: dict[str, tuple[float, int]] = {}  # when the window ends, and what was counted in it
        self._walk_at = 0.0

    def __contains__(self, key: str) -> bool:
        return key in self._counters

    def is_full(self) -> bool:
        """Whether there are as many counters as there may be, after those whose windows are over have been dropped."""
        if len(self._counters) < self._most:
            return False
        now = time.monotonic()
        if now >= self._walk_at:
            self._walk_at = now + _WALK_PAUSE_S
            self._counters = {key: counter for key, counter in self._counters.items() if counter[0] > now}
        return len(self._counters) >= self._most

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count; what was counted in the window, of `expiry` seconds, which begins here where there is none."""
        ends, count = self._counters.get(key, (0.0, 0))
        now = time.monotonic()
        if ends <= now:
            ends, count = now + expiry, 0
        self._counters[key] = ends, count + amount
        return count + amount

    def get(self, key: str) -> int:
        """What was counted in the window there is."""
        ends, count = self._counters.get(key, (0.0, 0))
        return count if ends > time.monotonic() else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends, or ended."""
        return self._counters.get(key, (0.0, 0))[0]

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._counters.pop(key, None)

    def reset(self) -> int:
        """Forget all; how many there were."""
        count = len(self._counters)
        self._counters.clear()
        return count

    def check(self) -> bool:
        """It always works."""
        return True

    @property
    def base_exceptions(self) -> type[Exception]:
        """What it raises: nothing of its own."""
        return ValueError
