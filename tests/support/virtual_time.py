"""An event loop whose clock goes on only while everybody waits: minutes pass at once, and no busy machine is late."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    """Does not wait, but says that it has."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += 0.0 if ready else timeout or 0.0
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def passes_at_once(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test that waits for nothing but `asyncio.sleep` and other tasks, without the waiting."""

    @functools.wraps(test)
    def run() -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test())

    return run


def now() -> float:
    """The running loop's time."""
    return asyncio.get_running_loop().time()
