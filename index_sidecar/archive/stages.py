"""Where the time of a request goes, by stage: for its line in the log, and for the metrics.

What a request does at the same time, as the parts of one call do, adds up: the stages may take longer than it did.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Literal

Stage = Literal["wait", "embed", "search", "commit", "index"]
"""Wait for a turn, have the model embed, find and rank, make durable, put into the index."""

_spent: ContextVar[dict[Stage, float] | None] = ContextVar("spent", default=None)


def begin() -> None:
    """From now on count for this request, and for the tasks it starts."""
    _spent.set({})


def spent() -> Mapping[Stage, float]:
    """Seconds by stage so far; those that were not met are left out."""
    return _spent.get() or {}


@contextlib.contextmanager
def stage(name: Stage) -> Iterator[None]:
    """The time the block takes counts as this stage's; outside a request nothing counts."""
    stages = _spent.get()
    started = time.perf_counter()
    try:
        yield
    finally:
        if stages is not None:
            stages[name] = stages.get(name, 0.0) + time.perf_counter() - started
