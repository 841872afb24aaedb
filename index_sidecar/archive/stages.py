"""Where the time of a request goes, by stage: for its line in the log, and for the metrics.

What a request does at the same time, as the parts of one call do, adds up: the stages may take longer than it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Literal

Stage = Literal["wait", "embed", "search", "commit", "index"]
"""Wait for a turn, have the model embed, find and rank, make durable, put into the index."""

Watch = Callable[[Stage], AbstractContextManager[None]]

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_spent: ContextVar[dict[Stage, float] | None] = ContextVar("spent", default=None)


def begin() -> None:
    """From now on count for this request, and for the tasks it starts."""
    _spent.set({})


def watch(stages: Watch) -> None:
    """Have each stage of this request run within what this gives for it."""
    _watch.set(stages)


def spent() -> Mapping[Stage, float]:
    """Seconds by stage so far; those that were not met are left out."""
    return _spent.get() or {}


class stage:
    """The time the block takes counts as this stage's; outside a request nothing counts."""

    __slots__ = ("_name", "_spent", "_started", "_watched")

    def __init__(self, name: Stage) -> None:
        self._name = name

    def __enter__(self) -> None:
        watch = _watch.get()
        self._spent = _spent.get()
        self._watched = None if watch is None else watch(self._name)
        if self._watched is not None:
            self._watched.__enter__()
        self._started = time.perf_counter()

    def __exit__(self, *failure: object) -> None:
        if self._spent is not None:
            self._spent[self._name] = self._spent.get(self._name, 0.0) + time.perf_counter() - self._started
        if self._watched is not None:
            self._watched.__exit__(*failure)  # type: ignore[arg-type]
