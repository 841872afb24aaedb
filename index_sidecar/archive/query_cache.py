"""Vectors of queries that were asked before, so that the same question asks the model once."""

from __future__ import annotations

from cachetools import LRUCache

from .content import DIMENSION, ContentType, Embedding

# The vector, and about what Python needs for it, its key and its place.
_ENTRY_BYTES = 4 * DIMENSION + 1024


class QueryCache:
    """Embeddings by model, type and SHA-256 of the bytes; what was not asked for longest goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._embeddings: LRUCache[tuple[str | None, ContentType, bytes], Embedding] = LRUCache(
            max_bytes // _ENTRY_BYTES
        )
        self.hits, self.misses = 0, 0

    def __len__(self) -> int:
        return len(self._embeddings)

    def get(self, fingerprint: str | None, content_type: ContentType, sha256: bytes) -> Embedding | None:
        """The embedding by the model with this fingerprint, if it is still here."""
        kept = self._embeddings.get((fingerprint, content_type, sha256))
        self.hits, self.misses = self.hits + (kept is not None), self.misses + (kept is None)
        return kept

    def put(self, content_type: ContentType, sha256: bytes, embedding: Embedding) -> None:
        """Keep an embedding under the model it is of."""
        if self._embeddings.maxsize >= 1:
            self._embeddings[embedding.fingerprint, content_type, sha256] = embedding
