"""Originals: the bytes of contents as they came, where an archive keeps them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from .content import Content, ContentType
from .errors import NotFound
from .ports import Kept, Store

Keep = Literal["none", "texts", "all"]
KEPT_TYPES: dict[Keep, tuple[ContentType, ...]] = {"none": (), "texts": ("text",), "all": ("text", "image")}
"""Of which types an archive keeps the originals."""


class Keeping:
    """Which originals are kept from now on, and those that are kept, whenever that was."""

    def __init__(self, store: Store, types: Collection[ContentType]) -> None:
        self._store = store
        self._types = types

    def of(self, data: bytes | None, content_type: ContentType) -> bytes | None:
        """The bytes of a content that comes in, where they are kept."""
        return data if content_type in self._types else None

    async def has(self, content_id: str) -> bool:
        """Whether the original of a stored content is kept."""
        return not await self._store.originals.lacks(content_id)

    async def open(self, content_id: str) -> tuple[Content, Kept]:
        """A content and its original, which the caller closes. Raises NotFound."""
        found = await self._store.originals.open(content_id)
        if found is not None:
            return found
        if await self._store.get(content_id) is None:
            raise NotFound("no content has this id")
        raise NotFound("the original of this content is not kept", "no_original")

    async def size_bytes(self) -> Mapping[ContentType, int]:
        """What those that are kept take on the disk, by type; empty where nobody knows."""
        return await self._store.originals.size_bytes()


class KeptText:
    """The original of a text, which is read already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    async def read(self, start: int, size: int) -> bytes:
        """These bytes."""
        return self._data[start : start + size]

    def close(self) -> None:
        """There is nothing to let go of."""
