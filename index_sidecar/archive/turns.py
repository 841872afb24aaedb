"""Turns: calls that change the same content id take effect one after the other, so that store and index agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from .errors import Overloaded

_RETRY_AFTER_S = 5


class Turns:
    """`async with turns.of(content_id)`: alone with the id, in the order the callers came."""

    def __init__(self, wait_s: float) -> None:
        """`wait_s`: how long a caller waits at most, for all the ids it wants."""
        self._wait_s = wait_s
        self._queues: dict[str, _Queue] = {}

    @contextlib.asynccontextmanager
    async def of(self, *ids: str) -> AsyncIterator[None]:
        """Wait for the turn with every id, and hold them until the block ends. Raises Overloaded."""
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_s):
                    for content_id in sorted(set(ids)):  # in one order for all, so that no two wait for each other
                        await held.enter_async_context(self._of(content_id))
            except TimeoutError:
                error = Overloaded("other calls for the same content take too long; try again later")
                error.retry_after_s = _RETRY_AFTER_S
                raise error from None
            yield

    @contextlib.asynccontextmanager
    async def _of(self, content_id: str) -> AsyncIterator[None]:
        queue = self._queues.setdefault(content_id, _Queue())
        queue.callers += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.callers -= 1
            if queue.callers == 0:
                del self._queues[content_id]


class _Queue:
    """The lock of one id and how many callers hold or await it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.callers = 0
