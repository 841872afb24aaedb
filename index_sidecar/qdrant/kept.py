"""Originals of texts on a cluster: compressed, in the payload of their points. Pictures' are not kept there."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Mapping
from typing import Any

from ..archive.content import Content, ContentType, preview_of_text
from ..archive.originals import KeptText
from .collection import QdrantCollection
from .listing import Point
from .points import WHOLE, content_of, point_id

_LEVEL = 6
_RAW = -zlib.MAX_WBITS
START = ""
"""In the place of a text's preview: what is shown of it is the start of its original."""


async def payload_with(preview: bytes | None, original: bytes | None) -> dict[str, Any]:
    """What a point holds of both."""
    if original is None:
        return {} if preview is None else {"preview": base64.b64encode(preview).decode()}
    kept = {"original": await asyncio.to_thread(_compressed, original)}
    return kept if preview is None else {**kept, "preview": START}


def _compressed(text: bytes) -> str:
    return base64.b64encode(zlib.compress(text, _LEVEL, _RAW)).decode()


def original_of(point: Point) -> bytes | None:
    """The text that a point holds."""
    kept = point["payload"].get("original")
    return None if kept is None else zlib.decompress(base64.b64decode(kept), _RAW)


def preview_of(point: Point) -> bytes | None:
    """The preview that a point holds, or that is the start of its text."""
    kept = point["payload"].get("preview")
    if kept is None:
        return None
    text = original_of(point) if kept == START else None
    return base64.b64decode(kept) if text is None else preview_of_text(text)


class KeptTexts:
    """Gives and opens them. All raise StorageUnavailable."""

    def __init__(self, collection: QdrantCollection) -> None:
        self._collection = collection

    async def lacks(self, content_id: str) -> bool:
        """Whether a content is stored without its original."""
        body = {"ids": [point_id(content_id)], "with_payload": ["original"], "with_vector": False}
        return any(
            "original" not in (point["payload"] or {}) for point in await self._collection.read("/points", body) or ()
        )

    async def give(self, content: Content, original: bytes) -> None:
        """Have a stored text, as long as it has these bytes, its original; durable when it returns."""
        there = {"ids": [point_id(content.id)], "with_payload": ["preview"], "with_vector": False}
        for point in await self._collection.read("/points", there) or ():
            payload = await payload_with(b"" if "preview" in (point["payload"] or {}) else None, original)
            same = [{"key": "sha256", "match": {"value": content.sha256.hex()}}, {"has_id": [point["id"]]}]
            await self._collection.write("POST", "/points/payload", {"payload": payload, "filter": {"must": same}})

    async def open(self, content_id: str) -> tuple[Content, KeptText] | None:
        """A text and its original; None when there is no such content, or no original of it."""
        body = {"ids": [point_id(content_id)], **WHOLE, "with_payload": True}
        for point in await self._collection.read("/points", body) or ():
            text = original_of(point)
            if text is not None:
                return content_of(point), KeptText(text)
        return None

    async def size_bytes(self) -> Mapping[ContentType, int]:
        """Nobody knows."""
        return {}
