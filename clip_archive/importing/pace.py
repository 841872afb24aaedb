"""How much is sent at the same time: more as long as all goes well, half of it when the archive says it is too much.

Additive increase, multiplicative decrease: Chiu and Jain, "Analysis of the Increase and Decrease Algorithms for
Congestion Avoidance in Computer Networks" (1989).
"""

from __future__ import annotations

import asyncio
import time

_FIRST = 16.0
_CUT_EVERY_S = 0.5  # what was sent before a cut must not cut once more
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0


class Pace:
    """Contents under way, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(_FIRST, float(most))
        self._under_way = 0
        self._pause_s = _FIRST_PAUSE_S
        self._paused_until = 0.0
        self._cut_at = 0.0
        self._room = asyncio.Condition()

    async def room(self, wanted: int) -> int:
        """How many of `wanted` may go now: waits until one may."""
        async with self._room:
            while True:
                pause_s = self._paused_until - time.monotonic()
                if pause_s <= 0 and self._under_way < int(self.limit):
                    granted = min(wanted, int(self.limit) - self._under_way)
                    self._under_way += granted
                    return granted
                try:
                    async with asyncio.timeout(max(0.01, pause_s) if pause_s > 0 else None):
                        await self._room.wait()
                except TimeoutError:
                    pass

    async def done(self, count: int, went_well: int) -> None:
        """So many are under way no more; `went_well` of them were taken."""
        async with self._room:
            self._under_way -= count
            if went_well:
                self.limit = min(self._most, self.limit + went_well / self.limit)
                self._pause_s = _FIRST_PAUSE_S
            self._room.notify_all()

    def slower(self, after_s: float | None) -> None:
        """The archive could not take something: wait as long as it says, else longer each time, and send less."""
        now = time.monotonic()
        if now - self._cut_at > _CUT_EVERY_S:
            self._cut_at = now
            self.limit = max(1.0, self.limit / 2)
        if now >= self._paused_until:
            self._paused_until = now + min(after_s if after_s is not None else self._pause_s, _LONGEST_PAUSE_S)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
