"""When a call that failed is made again: what the archive asks for in Retry-After, else a growing pause."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .errors import ArchiveError

_SECONDS = re.compile(r"\d{1,9}(\.\d{0,9})?", re.ASCII)


@dataclass(frozen=True)
class Patience:
    """How a client waits; all in seconds.

    `silence_s`: how long an answer, or the next piece of one, may take. `within_s`: how long a call may take with all
    its repetitions. `attempts`: how often it is made at most. `pause_s`: the first pause where the archive asks for
    none; each doubles. `wait_most_s`: the longest, whatever was asked for.
    """

    silence_s: float = 60.0
    within_s: float = 120.0
    attempts: int = 6
    pause_s: float = 0.3
    wait_most_s: float = 30.0
    connect_s: float = 10.0


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds a Retry-After names, as a number or as a date (RFC 9110); None where nobody can tell."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def backoff(patience: Patience, repeatable: bool) -> Callable[[Exception], bool | float]:
    """What stamina asks about a failure: whether to try again, and after how many seconds.

    A call that is not `repeatable` is made again only where surely nothing of it was done.
    """
    started = time.monotonic()

    def decide(error: Exception) -> bool | float:
        if not isinstance(error, ArchiveError) or not error.retryable:
            return False
        if not (repeatable or error.surely_undone):
            return False
        if error.retry_after_s is None:
            return True
        wait_s = min(error.retry_after_s, patience.wait_most_s)
        return wait_s if time.monotonic() - started + wait_s <= patience.within_s else False

    return decide


def retrying(patience: Patience, repeatable: bool) -> dict[str, Any]:
    """For stamina.retry_context."""
    return {
        "on": backoff(patience, repeatable),
        "attempts": patience.attempts,
        "timeout": patience.within_s,
        "wait_initial": patience.pause_s,
        "wait_jitter": patience.pause_s,
        "wait_max": patience.wait_most_s,
    }
