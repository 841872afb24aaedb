"""How the archive is at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..archive.content import ContentType, IndexState


@dataclass(frozen=True)
class State:
    """What whoever watches the archive wants to know. Counts of events are since the start of the process.

    Without storage, `types` and `originals`, in bytes, are empty.
    """

    ready: bool
    embedder: bool
    storage: bool
    body_bytes: int
    turned_away: int
    erasures_due: int
    waiting: Mapping[str, int]
    refused: Mapping[str, int]
    cached_queries: int
    cache: Mapping[str, int]
    store: Mapping[str, int]
    index: Mapping[str, int]
    types: Mapping[ContentType, IndexState]
    originals: Mapping[ContentType, int]
