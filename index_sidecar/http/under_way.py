"""What one call of many contents has under way: so much that the model's batches are full, and no more.

A call waits for itself alone: before it reads on, until few enough of its contents, and bytes of them, are left. They
hold all they need by then, and wait for the model and the disk, never for memory: so no two calls wait for each other.
A content that finds no memory after that is refused, as one that comes alone is.
"""

from __future__ import annotations

import asyncio

from .memory import Share


class UnderWay:
    """The shares of the contents that are being added."""

    def __init__(self, most: int, most_bytes: int) -> None:
        """So many contents, and so many bytes beside the content that is read next."""
        self._most = most
        self._most_bytes = most_bytes
        self._shares: set[Share] = set()
        self._changed = asyncio.Event()

    async def room(self) -> None:
        """Wait until another content may be read. For one reader."""
        while len(self._shares) >= self._most or sum(share.held for share in self._shares) > self._most_bytes:
            self._changed.clear()
            await self._changed.wait()

    def begin(self, share: Share) -> None:
        """A content is here as a whole."""
        self._shares.add(share)

    def release(self, share: Share) -> None:
        """Its bytes are needed no more."""
        share.release()
        self._changed.set()

    def end(self, share: Share) -> None:
        """What became of it is told."""
        self.release(share)
        self._shares.discard(share)
