"""The two places where the service does not care which implementation it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .content import Content, ContentType, Embedding, Hit, Vector


class Embedder(Protocol):
    """Bytes of a content -> its vector."""

    answers: bool
    """Whether the last call got an answer of the model."""

    async def embed(self, data: bytes, content_type: ContentType, request_id: str) -> Embedding:
        """The unit vector of one text (UTF-8) or image file.

        Raises InvalidInput (or a kind of it) when the content cannot be embedded, Unavailable when nothing can.
        """


class VectorIndex(Protocol):
    """Vectors by content id, searched by cosine similarity. Calls take effect in the order they are made."""

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""

    async def delete(self, content_id: str) -> None:
        """Take a content out; nothing happens when it is not there."""

    async def search(self, query: Vector, k: int, content_type: ContentType, without_user: str | None) -> list[Hit]:
        """The exact k most similar contents of one type that are not `without_user`'s, best first, ties by id."""

    def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""
