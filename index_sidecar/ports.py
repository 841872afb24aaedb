"""The places where a module does not care which implementation it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .content import Content, ContentType, Embedding, Head, Hit, IndexState, Vector


class Embedder(Protocol):
    """Bytes of a content -> its vector."""

    answers: bool
    """Whether the last call got an answer of the model."""

    async def embed(self, data: bytes, content_type: ContentType, request_id: str) -> Embedding:
        """The unit vector of one text (UTF-8) or image file.

        Raises InvalidInput (or a kind of it) when the content cannot be embedded, Unavailable when nothing can.
        """


class VectorSource(Protocol):
    """Where an index that lives in this process gets its contents back from: the store."""

    fingerprint: str | None
    """The model all stored vectors are of."""

    def heads(self, batch: int) -> Iterator[list[Head]]:
        """All contents without their vectors, `batch` at a time; for a thread, not for the event loop."""

    def vectors(self, keys: Sequence[int]) -> Vector:
        """(len(keys), 512) float32: the vectors of these ascending keys; for a thread, not for the event loop."""


class VectorIndex(Protocol):
    """Vectors by content id, searched by cosine similarity. Calls take effect in the order they are made."""

    async def load(self, source: VectorSource) -> None:
        """Fill the empty index with all that `source` holds; nothing else is called before it returns."""

    async def upsert(self, contents: Sequence[Content]) -> None:
        """Put contents in, each replacing what its id held before, also of the other type and earlier in `contents`."""

    async def delete(self, content_id: str) -> None:
        """Take a content out; nothing happens when it is not there."""

    async def search(self, query: Vector, k: int, content_type: ContentType, without_user: str | None) -> list[Hit]:
        """The k most similar contents of one type that are not `without_user`'s, best first, ties by id.

        Exactly those, or, where the state's kind is approximate, as many of them as its recall says.
        """

    def count(self, content_type: ContentType) -> int:
        """How many contents of one type are in."""

    def state(self, content_type: ContentType) -> IndexState:
        """How the contents of one type are searched at the moment."""
