"""Turns: calls that change the same content id take effect one after the other, so that store and index agree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """`async with turns.of(content_id)`: alone with the id, in the order the callers came."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    @contextlib.asynccontextmanager
    async def of(self, content_id: str) -> AsyncIterator[None]:
        """Wait for the turn, and hold it until the block ends."""
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
