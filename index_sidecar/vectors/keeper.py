"""Keeps the shelves in shape, one thing at a time: builds, goes back to exact, writes snapshots."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import MutableMapping

from ..archive.content import CONTENT_TYPES, ContentType
from .builder import IndexBuilder, InThread
from .loader import IndexLoader
from .shelf import Shelf
from .snapshot import Snapshots

logger = logging.getLogger(__name__)

_CHANGES_AT_THE_SWAP = 128
_PAUSE_S = 60.0  # after a failure


class IndexKeeper:
    """Works from its construction until `end`, whenever it is told of changes."""

    def __init__(
        self,
        shelves: MutableMapping[ContentType, Shelf],
        in_thread: InThread,
        builder: IndexBuilder,
        snapshots: Snapshots,
        loader: IndexLoader,
    ) -> None:
        self._shelves = shelves
        self._in_thread = in_thread
        self._builder = builder
        self._snapshots = snapshots
        self._loader = loader
        self._changed = asyncio.Event()
        self._changed.set()
        self._task = asyncio.create_task(self._keep())

    def changed(self) -> None:
        """Something may be to do."""
        self._changed.set()

    async def end(self) -> None:
        """Give up what is under way."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def write_last_snapshots(self) -> None:
        """Of all that changed since the last ones."""
        for shelf in self._shelves.values():
            if self._snapshots.due(shelf, at_the_end=True):
                await self._write_snapshot(shelf)

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            for content_type in CONTENT_TYPES:
                try:
                    if self._builder.needed(content_type):
                        await self._builder.build(content_type)
                    if self._builder.to_be_exact(content_type):
                        await self._make_exact(content_type)
                    if self._snapshots.due(self._shelves[content_type]):
                        await self._write_snapshot(self._shelves[content_type])
                except Exception:
                    logger.exception("the %s index could not be kept in shape; it answers as before", content_type)
                    await asyncio.sleep(_PAUSE_S)

    async def _make_exact(self, content_type: ContentType) -> None:
        """Fill another shelf from the store, which has the vectors as they were, and put it in this one's place."""
        shelf = self._shelves[content_type]
        await self._in_thread(shelf.note_changes)

        def swap() -> bool:
            if shelf.changes > _CHANGES_AT_THE_SWAP:
                return False
            fresh.apply(shelf.take_changes())
            self._shelves[content_type] = fresh
            return True

        try:
            fresh = await asyncio.to_thread(self._loader.load, content_type, sys.maxsize, 0.0)
            while not await self._in_thread(swap):
                changes = await self._in_thread(shelf.take_changes)
                await asyncio.to_thread(fresh.apply, changes)
        finally:
            await self._in_thread(shelf.forget_changes)
        await asyncio.to_thread(shelf.vectors.release)

    async def _write_snapshot(self, shelf: Shelf) -> None:
        snapshot = await self._in_thread(lambda: self._snapshots.take(shelf))
        if snapshot is not None and not await asyncio.to_thread(self._snapshots.write, shelf.content_type, snapshot):
            shelf.vectors.unsaved = len(shelf)
