"""Clusters of histories that were clustered before: a history that has not changed is not clustered again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence

from cachetools import LRUCache

from .content import Content
from .grouping import HISTORY, Clusters, clusters_of

# Row numbers, the key, and about what Python needs for both and their places.
_ENTRY_BYTES = 40 * HISTORY + 2048


class ClusterCache:
    """Clusters by ids, digests and model of a history, in its order; what was not asked for longest goes first.

    It holds row numbers, and nothing of any content. Any thread may ask.
    """

    def __init__(self, max_bytes: int) -> None:
        self._clusters: LRUCache[bytes, Clusters] = LRUCache(max_bytes // _ENTRY_BYTES)
        self._lock = threading.Lock()

    def clusters_of(self, history: Sequence[Content]) -> Clusters:
        """As grouping.py's."""
        key = _key(history)
        with self._lock:
            known = self._clusters.get(key)
        if known is None:
            known = clusters_of(history)
            with self._lock:
                self._clusters[key] = known
        return known


def _key(history: Sequence[Content]) -> bytes:
    digest = hashlib.sha256()
    for content in history:
        for part in (content.id, content.type, content.embedding.fingerprint):
            digest.update(part.encode() + b"\x00")  # which no id holds
        digest.update(content.sha256)
    return digest.digest()
