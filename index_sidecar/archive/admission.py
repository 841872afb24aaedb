"""Admission to work that is computed here: a few at once, and nobody waits for it in vain.

As in lanes.py, whoever would wait longer than `wait_s`, as far as those ahead and the time of late tell, is refused at
once, and who did wait so long, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

from .errors import Overloaded
from .stages import stage

_SMOOTHING = 0.3
_LONGEST_RETRY_S = 60


class Admission:
    """Lets at most `most` callers work at once."""

    def __init__(self, most: int, wait_s: float, what: str) -> None:
        """`what` is asked for too often, callers are told."""
        self._most = most
        self._wait_s = wait_s
        self._what = what
        self._free = asyncio.Semaphore(most)
        self._waiting = 0
        self._takes_s = 0.0  # one, of late; while that is not known, nobody is refused for who is ahead

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it until the block ends. Raises Overloaded when it is too far off."""
        with stage("wait"):
            await self._wait()
        began = time.monotonic()
        try:
            yield
        finally:
            took_s = time.monotonic() - began
            self._takes_s += (_SMOOTHING if self._takes_s else 1.0) * (took_s - self._takes_s)
            self._free.release()

    async def _wait(self) -> None:
        ahead_s = self._takes_s * (self._waiting + 1) / self._most if self._free.locked() else 0.0
        if ahead_s > self._wait_s and self._waiting:
            raise self._overloaded(ahead_s)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise self._overloaded(max(ahead_s, self._wait_s)) from None
        finally:
            self._waiting -= 1

    def _overloaded(self, wait_s: float) -> Overloaded:
        error = Overloaded(f"more {self._what} are asked for than can be computed in time; try again later")
        error.retry_after_s = min(max(1, math.ceil(wait_s)), _LONGEST_RETRY_S)
        return error
