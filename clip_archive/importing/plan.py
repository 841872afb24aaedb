"""How to import, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import ArchiveError
from .items import Found


@dataclass(frozen=True)
class Plan:
    """How to import. `patience_s`: how long the archive may take nothing before the import stops."""

    at_once: int = 64
    patience_s: float = 120.0
    retry_failed: bool = False
    send_all: bool = False
    dry_run: bool = False
    change: Callable[[Found, bytes], bytes] | None = None


@dataclass
class Ready:
    """A content that is read, and is to be sent."""

    found: Found
    root: str
    data: bytes
    sha256: bytes
    tries: int = 0


@dataclass
class Result:
    """What became of everything: `became` counts added, replaced, unchanged, skipped, failed and ignored."""

    became: Counter[str] = field(default_factory=Counter)
    found: int = 0
    stopped: ArchiveError | None = None
