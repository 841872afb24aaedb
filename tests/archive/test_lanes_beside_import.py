"""Searches beside an import of pictures, at the real model's speeds."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from itertools import chain

import numpy as np

from index_sidecar.archive.content import ContentType, Embedding
from index_sidecar.archive.errors import Overloaded
from index_sidecar.archive.lanes import Lane, Lanes

from ..support.virtual_time import now, passes_at_once


class Worker:
    """Takes up to 16 of what waits when it begins as one batch, as TorchServe's does; speeds as of the real one."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ContentType, asyncio.Future[None]]] = []
        self._working: asyncio.Task[None] | None = None

    def answers(self) -> bool:
        return True

    async def embed(self, data: bytes, content_type: ContentType, aside: Callable[[], None] | None = None) -> Embedding:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((content_type, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await done
        return Embedding(np.zeros(512, np.float32), "model")

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0.002)  # maxBatchDelay
            batch, self._waiting = self._waiting[:16], self._waiting[16:]
            await asyncio.sleep(0.006 + sum(0.02 if each == "image" else 0.0024 for each, _ in batch))
            for _, done in batch:
                done.set_result(None)


@passes_at_once
async def test_searches_beside_an_import_take_less_than_five_times_as_long_and_the_import_goes_on() -> None:
    lanes, added = Lanes(Worker(), queue_s=2), list[float]()

    async def search() -> list[float]:
        took = []
        for _ in range(200):
            began = now()
            await asyncio.sleep(0.006)  # all that is not the model's
            await lanes.embed(b"search", "text", Lane.SEARCH)
            took.append(now() - began)
        return took

    async def import_pictures() -> None:
        while True:
            try:
                await lanes.embed(b"picture", "image", Lane.ADD)
                added.append(now())
            except Overloaded as error:
                await asyncio.sleep(error.retry_after_s)

    alone = await asyncio.gather(search(), search())
    importing = [asyncio.create_task(import_pictures()) for _ in range(64)]
    await asyncio.sleep(2)
    began, before = now(), len(added)
    beside = await asyncio.gather(search(), search())
    assert statistics.median(chain(*beside)) < 5 * statistics.median(chain(*alone))
    assert (len(added) - before) / (now() - began) > 25  # pictures a second, of the 50 that it could do alone
    for task in importing:
        task.cancel()
    await asyncio.gather(*importing, return_exceptions=True)
