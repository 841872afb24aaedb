"""How long a worker of TorchServe takes, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """What a batch of up to 16 takes, as the real worker does: whoever waits when it begins is in it."""

    batch_s: float
    text_s: float
    image_s: float

    def seconds(self, types: Sequence[str]) -> float:
        return self.batch_s + sum(self.image_s if each == "image" else self.text_s for each in types)


class Worker:
    """Takes what waits, 16 at once."""

    def __init__(self) -> None:
        self._in_queue: list[tuple[str, asyncio.Future[None]]] = []
        self._working: asyncio.Task[None] | None = None

    async def compute(self, content_type: str, speed: Speed) -> None:
        """Wait as long as a worker of this speed would take, also for what is ahead."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_queue.append((content_type, done))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work_off(speed))
        await done

    async def _work_off(self, speed: Speed) -> None:
        now = asyncio.get_running_loop().time
        free_at = now()
        while self._in_queue:
            batch, self._in_queue = self._in_queue[:16], self._in_queue[16:]
            free_at = max(free_at, now() - 0.01) + speed.seconds([each for each, _ in batch])
            await asyncio.sleep(free_at - now())
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
            await asyncio.sleep(0)  # who is answered may ask again
